"""The clients: thin twins over the engine."""

from anykontext.client.aio import AsyncClient
from anykontext.client.jobs import AsyncJob, Job
from anykontext.client.shortcuts import edit, generate
from anykontext.client.sync import Client

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job", "edit", "generate"]
