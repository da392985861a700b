# Keras with RunConfiguration, the way before ScriptRunConfig took all of it.
import os

from azureml.core import Environment, Experiment, Run, ScriptRunConfig, Workspace
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.runconfig import RunConfiguration

ws = Workspace.from_config()
keras_env = Environment(name="keras-env")
keras_env.python.conda_dependencies = CondaDependencies.create(
    pip_packages=["azureml-defaults", "keras"]
)
keras_env.python.user_managed_dependencies = True
keras_env.python.interpreter_path = os.environ["TRAINING_PYTHON"]

run_config = RunConfiguration()
run_config.target = ws.compute_targets["gpu-cluster"]
run_config.environment = keras_env
run_config.environment_variables = {"KERAS_BACKEND": "tensorflow"}

src = ScriptRunConfig(
    source_directory="./digits-project",
    command=["python", "keras_train.py", "--epochs", 2],
    run_config=run_config,
    max_run_duration_seconds=600,
)
run = Experiment(ws, "keras-digits").submit(src, tags={"framework": "keras"})
run.wait_for_completion(show_output=True, wait_post_processing=True, raise_on_error=True)

again = Run.get(ws, run.id)
assert again.get_tags() == {"framework": "keras"}
assert len(again.get_metrics("loss")["loss"]) == 2
assert [one.id for one in ws.experiments["keras-digits"].get_runs(tags="framework")] == [run.id]
print("metrics:", again.get_metrics())
