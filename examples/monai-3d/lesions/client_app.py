"""A hospital."""

from asclepias import private_client

from lesions import task

app = private_client(task.network, task.load_data, task.overlap)
