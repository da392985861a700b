"""What to write instead of the names of Azure ML's SDK v1 that have no counterpart.

Sentence → names. `hpctf.azureml.refusing` makes them answer, `hpctf migrate` prints them, and
docs/azureml-names.md lists them beside all that works.
"""

from __future__ import annotations

from collections.abc import Mapping

_SITE = "The cluster is described in its site file: see it with hpctf site show."
_IN_SCRIPT = (
    "A run logs from its own script: there, use run = Run.get_context() of azureml.core; from "
    "here, use run.tag(key, value) or run.upload_file(name, path)."
)
_ENDS = "A run ends with its job: use run.wait_for_completion() or run.cancel()."
_CHILDREN = (
    "Child runs are made by the script (Run.get_context().child_run(name)); from here, submit each "
    "run with Experiment.submit()."
)
_DEPLOY = (
    "Services run as Slurm jobs or local processes, without an image: use Model.deploy(workspace, "
    "name, models, InferenceConfig(...))."
)
_TUNE = (
    "hpctf does not choose models: vary a script's parameters with HyperDriveConfig(...), or "
    "hpctf tune."
)
_STUDY = (
    "Errors are hpctf's own (hpctf.UsageError), and a study is submitted with "
    "Experiment.submit(HyperDriveConfig(...))."
)
_TABLE = "Read the table in the script: pandas.read_csv(path); name its file as an input."
_FILES = "Work on the files themselves: pathlib.Path(dataset.to_path()[0]), or in the script."
_REGISTER = (
    "hpctf keeps no register of data sets: name files with Dataset.File.from_files('/path')."
)
_STORE = "Data are on the shared file system: name a path with Dataset.File.from_files('/path')."
_OUTPUT = "Write results to ./outputs in the script: hpctf keeps them with the run."
_SECRET = (
    "Give scripts a secret as a variable, environment_variables={'TOKEN': ...}, or in a file that "
    "only you can read."
)
_BUILD = (
    "hpctf builds environments at submission, or with hpctf env build; name packages with "
    "Environment.from_pip_requirements(name, file)."
)
_IMAGE = (
    "hpctf builds no images: name an existing one with Environment.from_docker_image(name, "
    "'docker://IMAGE')."
)
_CONTAINER = (
    "The container runtime's options belong in the site file (containers: {options: [...]})."
)
_PACKAGES = "Name the packages: pip_packages=[...], or add_pip_package() and add_conda_package()."
_WHERE_ELSE = "Pass it to ScriptRunConfig(...), or to hpctf.azureml.TensorFlow(...)."
_REMOVE = "Remove runs with hpctf runs --rm, or archive them with hpctf archive."
_CLOUD = "This exists only on Azure; a cluster has nothing like it, so leave the line out."
_CHECKED = "Experiment.submit() checks it."
_SCRIPT = (
    "Put the training into a script and submit it, with compute_target='local' to run it here."
)
_INDEX = "Name the index in the site file (environments.index_url) or in a requirements file."
_LOGIN = "Log in with the container runtime itself, such as apptainer registry login."
_FRAMEWORK = (
    "hpctf trains with TensorFlow: use MpiConfiguration(...) or TensorflowConfiguration(...)."
)
_OTHER_FRAMEWORK = (
    "hpctf supports TensorFlow only: run a script that uses another framework with "
    "Estimator(..., pip_packages=[...])."
)
_TENSORBOARD = "Start TensorBoard with hpctf tensorboard RUN."

MEMBERS: dict[str, dict[str, str]] = {
    "Workspace": {
        "A workspace is the site of HPCTF_SITE: use Workspace.from_config().": "create list setup",
        _SITE: "update update_dependencies delete sync_keys list_keys diagnose_workspace sku "
        "service_context discovery_url DEFAULT_CPU_CLUSTER_CONFIGURATION DEFAULT_CPU_CLUSTER_NAME "
        "DEFAULT_GPU_CLUSTER_CONFIGURATION DEFAULT_GPU_CLUSTER_NAME",
        "Write runs to MLflow with hpctf export mlflow EXPERIMENT.": "get_mlflow_tracking_uri",
        "hpctf keeps one datastore, a folder in the runs root: use ws.get_default_datastore().": (
            "set_default_datastore"
        ),
        _CLOUD: "add_private_endpoint delete_private_endpoint_connection private_endpoints "
        "set_connection list_connections get_connection delete_connection linked_services",
        "See the environments that hpctf has built with hpctf env list.": "environments",
        _IMAGE: "images",
    },
    "Experiment": {
        _SCRIPT: "start_logging",
        _REMOVE: "archive reactivate delete archived_time",
        "Tag the runs: Experiment.submit(config, tags={...}), or run.tag(key, value).": (
            "tag set_tags remove_tags tags"
        ),
        "Experiment.get_runs() always reads what is there now.": "refresh",
        "Create it by its name: Experiment(ws, 'name').": "from_directory",
        "See docs/from-azure-ml.md.": "get_docs_url",
    },
    "Run": {
        _IN_SCRIPT: "log log_list log_row log_table log_confusion_matrix log_accuracy_table "
        "log_residuals log_predictions flush",
        _ENDS: "start complete fail clean",
        _CHILDREN: "child_run create_children submit_child",
        _SECRET: "get_secret get_secrets",
        "Give the tag another value: run.tag(key, value).": "remove_tags",
        "Use run.get_details(): its state, reason, ranks and exit codes.": (
            "get_detailed_status description"
        ),
        "Use run.get_details(), or hpctf env show for what the environment holds.": (
            "get_environment"
        ),
        "The code is kept with each run: use run.restore_snapshot(path='DIR').": (
            "take_snapshot get_snapshot_id"
        ),
        "Use Run.get(workspace, run_id).": "get_submitted_run add_type_provider",
        "Use Experiment.get_runs(), or hpctf runs.": "list_by_compute",
        "See docs/from-azure-ml.md.": "get_docs_url",
    },
    "HyperDriveRun": {
        _ENDS: "fail",
        "Use hpctf why STUDY, or the logs of a trial: run.get_children().": "get_diagnostics",
    },
    "DataPath": {},
    "MpiConfiguration": {},
    "PythonSection": {},
    "Model": {
        _DEPLOY: "package profile print_configuration",
        "A model's files are on the shared file system: use model.download() or "
        "Model.get_model_path(name).": "get_sas_urls",
        "Name data sets as you register the model: datasets=[('training data', dataset)].": (
            "add_dataset_references"
        ),
        "Find it by its name and version: Model(workspace, name, version=3).": "deserialize",
        "hpctf models show NAME prints what a model was exported from.": ("derived_model_ids"),
    },
    "ScriptRunConfig": {},
    "TensorflowConfiguration": {},
    "RunConfiguration": {
        "Keep the settings in a job file, hpctf submit job.yaml (docs/job-files.md).": (
            "load save delete"
        ),
        "Set it for each run: ScriptRunConfig(..., sbatch={'nice': 100}).": "priority",
        _FRAMEWORK: "pytorch paralleltask",
        _OUTPUT: "output_data history",
        _STORE: "datacaches source_directory_data_store",
        _CLOUD: "spark hdi amlcompute kubernetescompute services credential_passthrough "
        "auto_cluster_compute_specification",
    },
    "DockerConfiguration": {_CONTAINER: "shared_volumes"},
    "Environment": {
        _BUILD: "build build_local label list add_private_pip_wheel load_from_directory "
        "save_to_directory get_image_details inferencing_stack_version asset_id",
        _IMAGE: "from_dockerfile from_docker_build_context",
        "Name its Python: TensorFlow(..., python='/path/of/conda/env/bin/python').": (
            "from_existing_conda_environment"
        ),
        _CLOUD: "spark databricks r",
    },
    "DockerSection": {
        _IMAGE: "base_dockerfile build_context",
        _LOGIN: "base_image_registry",
        _CONTAINER: "platform",
    },
    "CondaDependencies": {
        _INDEX: "set_pip_index_url sdk_origin_url pip_options set_pip_option remove_pip_option",
        "Name TensorFlow as a package: add_pip_package('tensorflow==2.18.*').": (
            "add_tensorflow_pip_package add_tensorflow_conda_package add_cntk_package"
        ),
        _PACKAGES: "merge_requirements get_default_number_of_packages "
        "DEFAULT_NUMBER_OF_CONDA_PACKAGES DEFAULT_NUMBER_OF_PIP_PACKAGES",
    },
    "ComputeTarget": {
        _SITE: "attach attach_configuration detach delete deserialize update add_identity "
        "remove_identity supported_vmsizes list_usages list_quotas update_quotas "
        "provisioning_configuration",
        "See the nodes with sinfo, and their jobs with squeue.": ("list_nodes get_active_runs"),
    },
    "AmlComputeStatus": {
        _SITE: "deserialize",
        "See the nodes with sinfo.": "node_state_counts creation_time modified_time "
        "allocation_state_transition_time provisioning_state_transition_time",
    },
    "Datastore": {
        _STORE: "register_azure_blob_container register_azure_file_share register_azure_data_lake "
        "register_azure_data_lake_gen2 register_azure_sql_database register_azure_postgre_sql "
        "register_azure_my_sql register_dbfs register_hdfs unregister set_as_default blob_service "
        "workspace_msi_has_access service_data_access_auth_identity subscription_id resource_group "
        "is_sas container_name account_name sas_token account_key credential_type protocol "
        "endpoint",
        _OUTPUT: "as_upload",
    },
    "DataReference": {_OUTPUT: "as_upload"},
    "Dataset": {
        _TABLE: "from_pandas_dataframe from_delimited_files auto_read_files from_parquet_files "
        "from_excel_files from_sql_query from_json_files to_pandas_dataframe to_spark_dataframe "
        "head sample diff compare_profiles generate_profile get_profile",
        _REGISTER: "get_by_id get list update update_definition get_definition get_definitions "
        "definition definition_version register deprecate archive reactivate is_visible state "
        "create_snapshot get_snapshot delete_snapshot get_all_snapshots name workspace id tags "
        "description",
        "Use Dataset.File.from_files('/path').": "from_binary_files",
    },
    "TabularDatasetFactory": {
        _TABLE: "from_parquet_files from_delimited_files from_json_lines_files from_sql_query "
        "register_pandas_dataframe register_spark_dataframe register_dask_dataframe"
    },
    "FileDataset": {
        _FILES: "skip take take_sample random_split file_metadata filter as_cache hydrate as_hdfs "
        "get_partition_key_values partition_keys data_changed_time",
        _REGISTER: "get_by_name get_by_id get_all id update add_tags remove_tags "
        "unregister_all_versions Tabular File",
    },
    "DatasetConsumptionConfig": {"Use as_mount(): the script gets the path.": "as_hdfs arg_val"},
    "Keyvault": {
        _SECRET: "set_secret set_secrets get_secret get_secrets get_secret_content_type "
        "delete_secret delete_secrets list_secrets"
    },
    "RunDetails": {"Use run.get_details() and run.get_metrics().": "get_widget_data"},
    "Mpi": {_CHECKED: "validate"},
    "ParameterServer": {_CHECKED: "validate"},
    "TensorFlow": {_WHERE_ELSE: "run_config conda_dependencies"},
}
"""For each class of hpctf.azureml, the members that only Azure ML's class has."""


def expanded(table: Mapping[str, str]) -> dict[str, str]:
    """Return name → sentence for a table of sentence → names."""
    return {name: sentence for sentence, names in table.items() for name in names.split()}


OF_MODULE = expanded(
    {
        _CLOUD: "azureml azureml.core azureml.core.databricks",
        "hpctf needs no login: leave the line out.": "azureml.core.authentication",
        _SITE: "azureml.core.compute azureml.core.compute_target",
        _BUILD: "azureml.core.environment",
        _LOGIN: "azureml.core.container_registry",
        _DEPLOY: "azureml.core.image azureml.core.resource_configuration azureml.core.webservice "
        "azureml.core.profile azureml.core.model",
        _STORE: "azureml.core.run azureml.data",
        _WHERE_ELSE: "azureml.core.runconfig",
        "Use Experiment.submit(ScriptRunConfig(...)).": "azureml.core.script_run_config",
        "Use Experiment.list(workspace).": "azureml.core.experiment",
        _OUTPUT: "azureml.data.output_dataset_config",
        _TABLE: "azureml.data.dataset_factory azureml.data.tabular_dataset azureml.dataprep",
        _OTHER_FRAMEWORK: "azureml.train.dnn azureml.train.estimator",
        _STUDY: "azureml.train.hyperdrive",
        _TUNE: "azureml.train.automl",
        "Use Estimator(..., pip_packages=['scikit-learn']).": "azureml.train.sklearn",
        "Use RunDetails(run).show().": "azureml.widgets",
        "hpctf sends nothing to anybody: leave the line out.": "azureml.telemetry",
        "Submit the steps one after the other, each with run.wait_for_completion() before the "
        "next.": "azureml.pipeline",
        _TENSORBOARD: "azureml.tensorboard azureml.contrib.tensorboard",
        "Write runs to MLflow with hpctf export mlflow EXPERIMENT.": "azureml.mlflow",
        "Download the data to a folder that the nodes can read, and name it with "
        "Dataset.File.from_files('/path').": "azureml.opendatasets",
        "This exists only on Azure; to start TensorBoard, run hpctf tensorboard RUN.": (
            "azureml.contrib"
        ),
    }
)
"""What to write instead of a module's names, for the longest module's name that fits."""

OF_NAME = expanded(
    {
        _DEPLOY: "Image",
        "Gloo is PyTorch's: use Mpi(...) (Horovod).": "Gloo",
        "NCCL as a backend is PyTorch's: use Mpi(...) (Horovod).": "Nccl",
        _FRAMEWORK: "PyTorchConfiguration",
        _LOGIN: "ContainerRegistry",
        _TABLE: "TabularDataset",
        _OUTPUT: "OutputFileDatasetConfig HDFSOutputDatasetConfig LinkFileOutputDatasetConfig "
        "LinkTabularOutputDatasetConfig",
    }
)
"""The same for names wherever they are imported from."""


def instead_of(module: str, name: str = "") -> str:
    """Return what to write instead of a name of one of Azure ML's modules."""
    if name in OF_NAME:
        return OF_NAME[name]
    while module not in OF_MODULE:
        module = module.rpartition(".")[0] or "azureml"
    return OF_MODULE[module]
