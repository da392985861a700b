"""MultiWorkerMirroredStrategy, with tf-keras and with TensorFlow alone."""

import task
import tensorflow as tf

STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()
RANK = STRATEGY.cluster_resolver.task_id
SIZE = STRATEGY.num_replicas_in_sync
OWN = task.SEED + RANK
"""Each worker would begin with weights of its own: the strategy gives all those of the first."""


def fit(keras, **options):
    with STRATEGY.scope():
        model = task.keras_model(keras, OWN)
        model.compile(task.keras_optimizer(keras, **options), task.keras_loss(keras))
    # Each worker names the whole batches: `fit` gives it its part of them.
    model.fit(task.dataset(), shuffle=False, verbose=0)
    return model.get_weights()


def loop(keras, **options):
    with STRATEGY.scope():
        model = task.keras_model(keras, OWN)
        optimizer = task.keras_optimizer(keras, **options)
        optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    @tf.function
    def step(batch):
        def replica_step(images, labels):
            with tf.GradientTape() as tape:
                losses = loss(labels, model(images, training=True))
                value = tf.nn.compute_average_loss(losses, global_batch_size=task.WHOLE)
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

        STRATEGY.run(replica_step, args=batch)

    for batch in shares():
        step(batch)
    return model.get_weights()


def tape():
    with STRATEGY.scope():
        network = task.Network(OWN, aggregation=tf.VariableAggregation.MEAN)

    @tf.function
    def step(batch):
        def replica_step(images, labels):
            replicas = tf.distribute.get_replica_context()
            mine = network.gradients(images, labels)
            network.descend(replicas.all_reduce(tf.distribute.ReduceOp.MEAN, mine))

        STRATEGY.run(replica_step, args=batch)

    for batch in shares():
        step(batch)
    return [weight.numpy() for weight in network.weights]


def shares():
    return STRATEGY.distribute_datasets_from_function(lambda _: task.dataset(RANK, SIZE))


if __name__ == "__main__":
    task.keep("fit", RANK, fit(tf.keras))
    task.keep("fit-clipped", RANK, fit(tf.keras, **task.CLIP))
    task.keep("loop", RANK, loop(tf.keras))
    task.keep("loop-clipped", RANK, loop(tf.keras, **task.CLIP))
    task.keep("tape", RANK, tape())
