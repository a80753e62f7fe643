"""The server: leads the training, and measures released models on public volumes."""

from asclepias import SecureFedAvg
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam

from lesions import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train with FedAdam's step on sums that nobody opens singly."""
    strategy = SecureFedAvg(
        FedAdam(eta=0.02, tau=0.01),
        patients=task.TRAINED,
        target_epsilon=float(context.run_config["target-epsilon"]),
        sampling_rate=0.3,
        learning_rate=1.0,
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.network().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=task.measure,
    )
    print("dice", list(result.evaluate_metrics_serverapp.values())[-1]["dice"])
