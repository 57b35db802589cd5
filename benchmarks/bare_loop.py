"""A model on ready tensors and nothing else: what TensorFlow runs on its own. Prints images a second.

    python benchmarks/bare_loop.py MODEL --batches 20

The SavedModel's signature with its variables frozen to constants, called with one batch of 32 over and over. Imports
nothing of ours.
"""

import argparse
import time

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

BATCH, SIZE = 32, 224


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, default=20)
    arguments = parser.parse_args()

    model = tf.saved_model.load(arguments.model)
    frozen = convert_variables_to_constants_v2(model.signatures["serving_default"])
    images = tf.random.stateless_normal([BATCH, SIZE, SIZE, 3], seed=[0, 0])
    frozen(images)
    began = time.perf_counter()
    for _ in range(arguments.batches):
        frozen(images)[0].numpy()
    print(arguments.batches * BATCH / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
