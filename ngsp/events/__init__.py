"""Events on their way to subscribers (decision 0034): publishing, the dispatcher, and deliveries to webhooks."""
