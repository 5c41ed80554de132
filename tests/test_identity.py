"""Who a function is on a shared store, and which functions are not shared."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import sys
import threading

import pytest

from cachekit import Cache, ConfigurationError
from cachekit._identity import Identities
from cachekit._tokens import MAX_KEPT, Tokens


class Store:
    """A shared store in this process."""

    def __init__(self):
        self.entries = {}

    def read(self, key, timeout):
        return self.entries.get(key)

    def write(self, key, data, ttl_ms, timeout):
        self.entries[key] = (bytes(data), ttl_ms)

    def delete(self, keys, timeout):
        return sum(self.entries.pop(key, None) is not None for key in keys)

    def ping(self, timeout):
        pass

    def close(self):
        pass


@pytest.fixture
def identities():
    return Identities()


def plain():
    return 1


def make(number):
    def inner():
        return number

    return inner


# ---- names and closures --------------------------------------------------------------


def test_a_function_is_its_module_and_qualified_name(identities):
    identity = identities.identify(plain)
    assert identity.name == "test_identity.plain"
    assert identity.shareable
    assert identity.reason is None


def test_an_identity_cannot_be_changed(identities):
    identity = identities.identify(plain)
    with pytest.raises(AttributeError):
        identity.name = "other"


def test_values_of_the_closure_are_part_of_the_identity(identities):
    one, two, again = make(1), make(2), make(1)
    data = [identities.identify(f).data for f in (one, two, again)]
    assert data[0] == data[2] != data[1]
    assert identities.identify(one).shareable


def test_equal_values_of_different_types_make_different_closures(identities):
    functions = [make(value) for value in (1, 1.0, True, "1", (1,), frozenset({1}))]
    assert len({identities.identify(f).data for f in functions}) == 6


def test_closure_is_read_at_first_use(identities):
    def outer():
        def inner():
            return late

        late = 5
        return inner

    assert identities.identify(outer()).shareable


def test_classes_and_functions_in_a_closure_are_told_by_name(identities):
    functions = [make(value) for value in (int, str, len, plain, Store)]
    assert len({identities.identify(f).data for f in functions}) == 5
    assert all(identities.identify(f).shareable for f in functions)


def test_variable_that_the_function_rebinds_is_left_out(identities):
    def outer(start):
        count = start

        def inner():
            nonlocal count
            count += 1
            return count

        return inner

    one, two = outer(1), outer(2)
    assert identities.identify(one).shareable
    assert identities.identify(one).data == identities.identify(two).data
    one()
    assert identities.identify(one).data == identities.identify(two).data


def sibling(start):
    state = start

    def inner():
        return state

    def change():
        nonlocal state
        state += 1

    return inner, change


def test_variable_that_a_sibling_rebinds_is_left_out(identities):
    (one, change), (two, _) = sibling(1), sibling(2)
    before = identities.identify(one).data
    change()
    assert identities.identify(one).data == before == identities.identify(two).data


def test_variable_that_is_only_initialised_in_steps_is_part(identities):
    def outer(number):
        number = int(number)
        number += 1

        def inner():
            return number

        return inner

    one, two = outer("1"), outer("2")
    assert identities.identify(one).data != identities.identify(two).data


def namesake(n):
    def inner():
        return n

    def other():
        n = 0

        def count():
            nonlocal n
            n += 1

        return count

    return inner, other


def test_namesake_that_is_rebound_is_another_variable(identities):
    (one, _), (two, _) = namesake(1), namesake(2)
    assert identities.identify(one).data != identities.identify(two).data


def test_container_that_the_function_fills_is_left_out(identities):
    calls, counts = [], {}

    def inner(key):
        calls.append(key)
        counts[key] = 1

    before = identities.identify(inner)
    assert before.shareable
    inner("a")
    assert identities.identify(inner).data == before.data


class Sum:
    def __init__(self, number):
        self.number = number

    def __cache_key__(self):
        return self.number

    def add(self, number):
        return Sum(self.number + number)


def test_method_named_like_one_that_fills_is_no_reason_to_leave_a_value_out(identities):
    def outer(total, table):
        def inner(x, y=None):
            return total.add(x), table, [y := x], y

        return inner

    one, two = outer(Sum(1), 1), outer(Sum(2), 1)
    assert identities.identify(one).data != identities.identify(two).data
    assert not identities.identify(outer(Sum(1), {})).shareable


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, {1}, bytearray(b"a"), ([],)], ids=repr
)
def test_closure_over_what_may_change_is_not_shared(identities, value):
    identity = identities.identify(make(value))
    assert not identity.shareable
    assert "its variable 'number'" in identity.reason
    assert "may change" in identity.reason


@pytest.mark.parametrize("value", [object(), threading.Lock(), lambda: 1, iter("")])
def test_closure_over_what_has_no_bytes_is_not_shared(identities, value):
    identity = identities.identify(make(value))
    assert not identity.shareable
    assert "no canonical bytes" in identity.reason


def test_variable_without_a_value_is_not_shared(identities):
    def outer():
        def inner():
            return late

        if not outer:
            late = 1
        return inner

    assert "has no value yet" in identities.identify(outer()).reason


class Base:
    def value(self):
        return 1


class Derived(Base):
    def value(self):
        return super().value()


def test_class_of_a_method_is_no_variable(identities):
    assert Derived.value.__closure__
    assert identities.identify(Derived.value).shareable


def test_function_that_calls_itself_is_shared(identities):
    cache = Cache(backend=None)

    def outer():
        @cache
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        return fib

    fib = outer()
    assert fib(20) == 6765
    assert identities.identify(fib.__wrapped__).shareable


def test_functions_that_call_each_other_are_shared(identities):
    cache = Cache(backend=None)

    def outer():
        @cache
        def even(n):
            return n == 0 or odd(n - 1)

        @cache
        def odd(n):
            return n != 0 and even(n - 1)

        return even, odd

    even, odd = outer()
    assert even(10)
    one, other = (identities.identify(f.__wrapped__) for f in (even, odd))
    assert one.shareable
    assert other.shareable
    assert one.data != other.data


def retry(times):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs) if times else None

        return wrapper

    return decorate


def test_function_under_another_decorator_is_told_by_what_is_wrapped(identities):
    @retry(3)
    def f():
        return 1

    def made(number):
        @retry(3)
        def f():
            return number

        return f

    assert identities.identify(f).shareable
    one, two = made(1), made(2)
    assert identities.identify(one).data != identities.identify(two).data
    assert identities.identify(one).shareable


def test_a_wrapper_without_the_name_of_what_it_wraps_is_not_shared(identities):
    def decorate(function):
        def wrapper():
            return function()

        return wrapper

    assert not identities.identify(decorate(make(1))).shareable


def test_lambda_is_not_shared(identities):
    identity = identities.identify(lambda: 1)
    assert identity.reason == "it is a lambda"


def test_method_bound_to_an_object_is_not_shared(identities):
    assert "bound to an object" in identities.identify(Base().value).reason
    assert identities.identify(len).shareable


# ---- name= ---------------------------------------------------------------------------


def test_name_vouches_for_closure_and_lambda(identities):
    for function in (lambda: 1, make([]), make(object()), functools.partial(plain)):
        identity = Identities().identify(function, "mine")
        assert identity.shareable
        assert identity.name == "mine"
    one, two = make(1), make(2)
    assert identities.identify(one, "x").data == identities.identify(two, "x").data


def test_callable_without_a_name_has_to_be_given_one(identities):
    with pytest.raises(ConfigurationError, match="name="):
        identities.identify(functools.partial(plain))


def test_one_name_on_two_functions_is_an_error(identities):
    first = identities.identify(plain, "mine")
    assert first.shareable
    with pytest.raises(ConfigurationError, match=r"'mine'.*plain.*Base\.value"):
        identities.identify(Base.value, "mine")
    identities.identify(plain, "mine")
    with pytest.raises(ConfigurationError, match="two functions"):
        identities.identify(Base.value, "test_identity.plain") and identities.identify(
            plain
        )


def test_one_name_in_two_caches_is_no_error():
    assert Identities().identify(plain, "mine").shareable
    assert Identities().identify(Base.value, "mine").shareable


# ---- two functions of one identity ---------------------------------------------------


def twice():
    def double(x):
        return x * 2

    first = double

    def double(x):
        return x + x

    return first, double


def test_second_function_of_one_identity_is_not_shared(identities):
    first, second = twice()
    assert identities.identify(first).shareable
    identity = identities.identify(second)
    assert not identity.shareable
    assert f"line {first.__code__.co_firstlineno}" in identity.reason
    assert identities.identify(first).shareable


def test_function_takes_the_place_of_one_that_is_gone(identities):
    first, second = twice()
    identities.identify(first)
    del first
    gc.collect()
    assert identities.identify(second).shareable


def test_functions_made_without_end_leave_nothing_behind(identities):
    for number in range(100):
        identities.identify(make(number))
    gc.collect()
    assert identities._uses == {}


def test_function_of_a_reloaded_module_replaces_the_first(
    identities, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = tmp_path / "reloaded_module.py"
    source.write_text("def f():\n    return 1\n")
    module = importlib.import_module("reloaded_module")
    first = module.f
    assert identities.identify(first).shareable
    source.write_text("\n\n\ndef f():\n    return 22\n")
    importlib.invalidate_caches()
    importlib.reload(module)
    second = module.f
    assert second() == 22
    assert identities.identify(second).data == identities.identify(first).data
    assert identities.identify(second).shareable
    del sys.modules["reloaded_module"]


def test_function_of_a_cell_that_is_run_again_replaces_the_first(identities):
    program = {"__name__": "__main__"}
    first = None
    for number, body in enumerate(("return 1", "# changed\n    return 2")):
        code = compile(f"def f():\n    {body}\n", f"<input-{number}>", "exec")
        exec(code, program)
        assert identities.identify(program["f"]).shareable
        first = first or program["f"]
    assert not identities.identify(first).shareable


def test_two_functions_of_one_line_are_told_apart_by_their_code(identities):
    programs = [{"__name__": "generated"} for _ in range(2)]
    for number, program in enumerate(programs):
        exec(f"def f(): return {number}", program)
    assert identities.identify(programs[0]["f"]).shareable
    assert not identities.identify(programs[1]["f"]).shareable


# ---- through the decorator -----------------------------------------------------------


def make_on(cache):
    def make(number, **options):
        @cache(**options)
        def inner(x):
            return x + number

        return inner

    return make


def test_entries_are_shared_between_wrappers_of_one_identity_only():
    store = Store()
    caches = [Cache(backend=store) for _ in range(2)]
    ones = [make_on(cache)(1) for cache in caches]
    twos = [make_on(cache)(2) for cache in caches]
    assert [f(1) for f in (*ones, *twos)] == [2, 2, 3, 3]
    assert [f.cache_info().l2_hits for f in (*ones, *twos)] == [0, 1, 0, 1]
    assert ones[0].key_for(1) == ones[1].key_for(1) != twos[0].key_for(1)


def test_unshared_function_lives_in_memory_and_warns_once(caplog):
    caplog.set_level(logging.WARNING, logger="cachekit")
    store = Store()
    cache = Cache(backend=store)
    functions = [cache(lambda x, n=n: x + n) for n in (1, 2)]
    assert [f(1) for f in functions * 2] == [2, 3, 2, 3]
    assert [f.cache_info().hits for f in functions] == [1, 1]
    assert store.entries == {}
    told = [r.getMessage() for r in caplog.records if "lambda" in r.getMessage()]
    assert len(told) == 1
    assert "name=" in told[0]


def test_name_shares_what_would_not_be():
    store = Store()
    one, two = (Cache(backend=store)(lambda x: x, name="mine") for _ in range(2))
    assert one(1) == two(1) == 1
    assert two.cache_info().l2_hits == 1


def test_one_name_on_two_functions_is_an_error_through_the_decorator():
    cache = Cache(backend=None)

    @cache(name="mine")
    def f():
        return 1

    @cache(name="mine")
    def g():
        return 2

    assert f() == 1
    with pytest.raises(ConfigurationError, match="'mine'"):
        g()


def test_every_wrapper_has_entries_of_its_own_in_memory():
    cache = Cache(backend=None)
    one, two = cache(plain), cache(plain)
    assert one() == two() == 1
    assert (one.cache_info().misses, two.cache_info().misses) == (1, 1)


# ---- tokens --------------------------------------------------------------------------


class Thing:
    pass


class Value:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value

    def __hash__(self):
        return hash(self.value)


class Slots:
    __slots__ = ()


def test_one_object_has_one_number():
    tokens = Tokens()
    for obj in (Thing(), Value(1), Slots(), object(), len):
        assert tokens(obj) == tokens(obj)


def test_numbers_are_never_given_again():
    tokens = Tokens()
    numbers = [tokens(Thing()) for _ in range(100)]
    numbers += [tokens(Slots()) for _ in range(100)]
    numbers += [Tokens()(Thing())]
    assert len(set(numbers)) == len(numbers)


def test_equal_objects_share_a_number_within_their_class():
    class Further(Value):
        pass

    tokens = Tokens()
    assert tokens(Value(1)) == tokens(Value(1)) != tokens(Value(2))
    assert tokens(Value(1)) != tokens(Further(1))


def test_object_whose_comparison_fails_is_told_by_identity():
    class Odd:
        def __eq__(self, other):
            raise ValueError("ambiguous")

        def __hash__(self):
            return 1

    class Unhashable(Value):
        def __hash__(self):
            raise TypeError("unhashable")

    tokens = Tokens()
    for kind in (Odd, lambda: Unhashable(1)):
        one, two = kind(), kind()
        assert tokens(one) == tokens(one)
        assert tokens(one) != tokens(two)


def test_what_is_told_by_identity_is_not_kept_alive():
    tokens = Tokens()
    thing = Thing()
    tokens(thing)
    assert len(tokens._weak) == 1
    del thing
    assert len(tokens._weak) == 0


def test_what_is_kept_alive_is_bounded_and_the_last_used_stay():
    tokens = Tokens()
    favourite = tokens(Value("favourite"))
    for number in range(3 * MAX_KEPT):
        tokens(Value(number))
        if number % 1000 == 0:
            assert tokens(Value("favourite")) == favourite
    kept = tokens._equal
    assert len(kept._young) + len(kept._old) <= 2 * MAX_KEPT


def test_forgotten_objects_get_new_numbers():
    tokens = Tokens()
    objects = [Thing(), Value(1), Slots()]
    before = [tokens(obj) for obj in objects]
    tokens.forget_all()
    assert not set(before) & {tokens(obj) for obj in objects}


def test_comparison_may_come_back_for_a_token():
    tokens = Tokens()

    class Nosy(Value):
        def __eq__(self, other):
            tokens(Value(self.value))
            return super().__eq__(other)

        def __hash__(self):
            tokens(Thing())
            return 1

    assert tokens(Nosy(1)) == tokens(Nosy(1)) != tokens(Nosy(2))


def test_threads_agree_on_the_number_of_an_object():
    tokens = Tokens()
    objects = [Value(n) for n in range(50)] + [Thing() for _ in range(50)]
    results = []

    def work():
        results.append([tokens(obj) for obj in objects])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result == results[0] for result in results)
