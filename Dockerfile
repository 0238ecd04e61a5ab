# One image for gateways, adapters and the one-shot set-up; docker-compose.yml shows how they run together.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/ngsp

COPY requirements/run.txt requirements/run.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/run.txt

COPY gateway.py LICENSE ./
COPY schemas schemas
COPY adapters adapters
COPY ngsp ngsp
# The folder is the package, as with scripts/environment: no build, and the adapters find their schemas beside them.
RUN python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'ngsp.pth').write_text('/opt/ngsp\n')" \
 && printf '#!/usr/local/bin/python\nimport sys\n\nfrom ngsp.cli import main\n\nsys.exit(main())\n' >/usr/local/bin/ngsp \
 && chmod 0755 /usr/local/bin/ngsp \
 && python -m compileall -q ngsp adapters \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ngsp \
 && install -d -o ngsp -g ngsp -m 0700 /var/lib/ngsp

USER ngsp
VOLUME /var/lib/ngsp
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["ngsp"]
CMD ["serve"]
