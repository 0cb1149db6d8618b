import copy
import pickle

from d2lite.utils.serialize import PicklableWrapper


def double(x):
    return 2 * x


def test_wrapped_function_is_called_and_pickled():
    wrapped = PicklableWrapper(PicklableWrapper(double))
    assert wrapped._obj is double
    assert wrapped.__name__ == "double"
    assert pickle.loads(pickle.dumps(wrapped))(3) == 6
    assert copy.deepcopy(wrapped)(3) == 6


def test_lambdas_and_closures_are_pickled():
    step = 1
    wrapped = PicklableWrapper(lambda x: x + step)
    assert pickle.loads(pickle.dumps(wrapped))(3) == 4
