"""A site: trains on its own digits."""

from asclepias import private_client

from quickstart import task

app = private_client(task.Net, task.load_data, one_record_each=True)
