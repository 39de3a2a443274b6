"""The clients: thin twins over the engine."""

from anykontext.client.aio import AsyncClient
from anykontext.client.jobs import AsyncJob, Job
from anykontext.client.sync import Client, edit, generate

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "edit", "generate"]
