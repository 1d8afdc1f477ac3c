"""Runs `python -m deepmac.train` as on several devices: `python run_on_logical_devices.py COUNT FLAGS...`."""

import runpy
import sys

import tensorflow as tf

count = int(sys.argv.pop(1))
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
runpy.run_module("deepmac.train", run_name="__main__", alter_sys=True)
