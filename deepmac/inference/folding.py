"""Makes a traced Keras model quicker in inference, with the same results.

A call of a traced model casts every weight to the compute dtype, runs batch norm as an operation of its
own, and brings every kernel into the layout of the convolution library. Here that is done once.
"""

import tensorflow as tf

# Kernels up to this many bytes in all become constants of the graph; then oneDNN keeps them in its
# own layout between calls, which halves the time of a mask head's call for a single box. TensorFlow's
# graph optimiser copies constants many times: its first run takes 0.1 s for each MB.
_LARGEST_CONSTANTS = 64 * 2**20
_DEPTHWISE = "DepthwiseConv2dNative"


def fold(function, input_signature):
    """Compiles a function for inference.

    Variables are read now, once. Batch norm after a convolution becomes part of the convolution's
    kernel and a bias, which TensorFlow fuses with what follows (addition, activation) on CPUs.

    Args:
        function: of tensors, returns a tensor or a tuple of them; its batch norm uses moving statistics.
        input_signature: a `tf.TensorSpec` for each argument.

    Returns:
        `tf.function` of the same arguments with a single trace; returns a list of tensors.
    """
    traced = tf.function(function, input_signature=input_signature, autograph=False).get_concrete_function()
    graph_def, weights = folded_graph(traced)
    present = {node.name for node in graph_def.node}
    weights = _stored(weights)
    inputs = [tensor.name for tensor in traced.inputs[: len(input_signature)]]
    outputs = [tensor.name for tensor in traced.outputs]
    captures = [(inner.name, outer) for outer, inner in traced.graph.captures if inner.op.name in present]

    @tf.function(input_signature=input_signature, autograph=False)
    def folded(*arguments):
        graph = tf.compat.v1.get_default_graph()
        tensors = dict(zip(inputs, arguments, strict=True))
        tensors |= {name: graph.capture(outer) for name, outer in captures}
        tensors |= {name: tf.convert_to_tensor(value) for name, value in weights.items()}
        return tf.graph_util.import_graph_def(graph_def, input_map=tensors, return_elements=outputs, name="")

    folded.get_concrete_function()
    return folded


def folded_graph(traced):
    """Separates what a function computes from its weights.

    Args:
        traced: `tf.types.experimental.ConcreteFunction`; its batch norm uses moving statistics.

    Returns:
        Its `GraphDef`, with batch norm folded and a placeholder for every weight, without what no output
        depends on except arguments; and tensor name of a placeholder -> its value.
    """
    graph_def = traced.graph.as_graph_def()
    weights = _weights(traced)
    weights |= _fold_batch_norm(traced.graph, graph_def, weights)
    _cut(graph_def, weights)
    arguments = [tensor for tensor in traced.inputs if tensor.dtype != tf.resource]
    graph_def = _reachable(graph_def, [_node_of(tensor.name) for tensor in [*arguments, *traced.outputs]])
    present = {node.name for node in graph_def.node}
    return graph_def, {name: value for name, value in weights.items() if _node_of(name) in present}


def _weights(traced):
    """Values of all tensors that read a variable, or cast what was read: tensor name -> tensor."""
    variables = {id(variable.handle): variable for variable in traced.graph.variables}
    captured = {
        inner.name: variables[id(outer)] for outer, inner in traced.graph.captures if id(outer) in variables
    }
    values = {}
    for operation in traced.graph.get_operations():  # in order of dependence
        if operation.type == "ReadVariableOp" and operation.inputs[0].name in captured:
            values[operation.outputs[0].name] = captured[operation.inputs[0].name].read_value()
        elif operation.type == "Cast" and operation.inputs[0].name in values:
            value = values[operation.inputs[0].name]
            values[operation.outputs[0].name] = tf.cast(value, operation.outputs[0].dtype)
    return values


def _fold_batch_norm(graph, graph_def, values):
    """Turns batch norms that follow a convolution into biases.

    Args:
        graph: of the traced function.
        graph_def: its definition; changed.
        values: of the weights, from `_weights`.

    Returns:
        Tensor name -> value: scaled kernels, and biases for new placeholders.
    """
    nodes = {node.name: node for node in graph_def.node}
    folded = {}
    for norm in graph.get_operations():
        if not _is_foldable(norm, values):
            continue
        convolution = norm.inputs[0].op
        scale, offset, mean, variance = (values[tensor.name] for tensor in norm.inputs[1:5])
        scale *= tf.math.rsqrt(variance + norm.get_attr("epsilon"))
        kernel = convolution.inputs[1]  # (h, w, in, out), or (h, w, channels, 1) where it is depthwise
        factor = scale[:, tf.newaxis] if convolution.type == _DEPTHWISE else scale
        weight = kernel.op.inputs[0] if kernel.op.type == "Cast" else kernel  # at its own precision
        folded[kernel.name] = tf.cast(values[weight.name] * factor, kernel.dtype)
        bias = f"{norm.name}/folded_bias"
        folded[f"{bias}:0"] = tf.cast(offset - mean * scale, norm.outputs[0].dtype)
        graph_def.node.add(name=bias)
        node = nodes[norm.name]
        dtype = node.attr["T"].type
        node.Clear()
        node.MergeFrom(type(node)(name=norm.name, op="BiasAdd", input=[convolution.name, bias]))
        node.attr["T"].type = dtype
    return folded


def _is_foldable(norm, values):
    if norm.type != "FusedBatchNormV3" or norm.get_attr("is_training"):
        return False
    convolution = norm.inputs[0].op
    return (
        convolution.type in ("Conv2D", _DEPTHWISE)
        and norm.get_attr("data_format") == convolution.get_attr("data_format") == b"NHWC"
        and len(convolution.outputs[0].consumers()) == 1
        and len(convolution.inputs[1].consumers()) == 1
        and all(tensor.name in values for tensor in [convolution.inputs[1], *norm.inputs[1:5]])
        and not any(output.consumers() for output in norm.outputs[1:])
    )


def _cut(graph_def, values):
    """Turns the nodes whose values are known into placeholders, and drops control dependencies."""
    known = {_node_of(name): value for name, value in values.items()}
    for node in graph_def.node:
        inputs = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        if node.name in known:
            node.op = "Placeholder"
            node.attr.clear()
            node.attr["dtype"].type = known[node.name].dtype.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(known[node.name].shape.as_proto())
        else:
            node.input.extend(inputs)


def _reachable(graph_def, outputs):
    """The part of a graph that its outputs depend on."""
    nodes = {node.name: node for node in graph_def.node}
    kept, stack = set(), list(outputs)
    while stack:
        name = stack.pop()
        if name not in kept:
            kept.add(name)
            stack.extend(_node_of(source) for source in nodes[name].input)
    part = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    part.node.extend(node for node in graph_def.node if node.name in kept)
    return part


def _stored(weights):
    """Weights in the form they enter the new graph: arrays become constants of it, variables do not.

    Kernels become constants if they are small enough. Biases never do: TensorFlow would move constant
    biases behind the addition of a residual, where they cannot be fused with the convolution.
    """
    kernels = {name: value for name, value in weights.items() if value.shape.rank == 4}
    size = sum(value.shape.num_elements() * value.dtype.size for value in kernels.values())
    constant = set(kernels) if size <= _LARGEST_CONSTANTS else set()
    return {
        name: value.numpy() if name in constant else tf.Variable(value, trainable=False)
        for name, value in weights.items()
    }


def _node_of(tensor_name):
    return tensor_name.split(":")[0]
