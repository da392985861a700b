"""What each Python of a training reads before its script, and what it looks at on the way.

`sitecustomize` watches for a few modules: TensorFlow, Keras, Horovod, mpi4py. As they are imported
`watched` has the ranks compared (`preflight`), Keras chosen (`keras_choice`) and Horovod's Keras
module refused or put right (`horovod_keras`). A script that imports none of them loads none of it.
Scripts written for Azure ML find ``azureml.core``, if their environment has none (`azureml`). All
of it is for Python 3.8 and up, and of the standard library alone.

This folder is first on the training's PYTHONPATH and holds nothing that a script could import by
chance: `sitecustomize` takes the folder off ``sys.path`` again, and goes on to the environment's
own `sitecustomize`, if it has one.

Why first, and why so: Python imports one ``sitecustomize``, the first on its path (site in the
standard library), and module systems such as EasyBuild's put theirs on PYTHONPATH, so behind them
ours would never run. A ``.pth`` file would need a folder of the environment's own; a package
``horovod`` of ours would make every script think that Horovod is installed; and a program that
runs the script for Python (``python -c``) would show in ``sys.argv``, ``__main__`` and tracebacks.
"""
