"""`python -m bench adapters`: what an adapter costs, part by part, each next to a reference of the same run.

`runner`: an adapter process with a function that does nothing, over a real Kafka, next to a bare loop of aiokafka.
`rest`: the REST back end against a server as fast as Python has one, next to aiohttp and httpx alone.
`soap`: the SOAP back end next to bare aiohttp with lxml and to zeep's own clients; its messages alone.
`mapping`: the expressions of a manifest over a reply of 1 KB, next to the same by hand and by `jmespath` itself.
"""
