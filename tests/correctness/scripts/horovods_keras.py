"""Horovod's older Keras module, which takes the package keras whatever ``tf.keras`` is."""

import horovod.keras as hvd

hvd.init()
