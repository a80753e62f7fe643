"""The server: leads the training and tests its models."""

from asclepias import SecureFedAvg
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from quickstart import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train over so many rounds, and save the model."""
    strategy = SecureFedAvg(patients=task.TRAINED, target_epsilon=3.0, learning_rate=0.5)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.Net().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=task.test,
    )
    print("accuracy", list(result.evaluate_metrics_serverapp.values())[-1]["accuracy"])
