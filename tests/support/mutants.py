"""Accelerators with one defect each, as backends really had them, and the tests that catch them."""

import os
import random
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import torch

from accel.cpu import CPUAccelerator
from accel.errors import UnknownOp
from accel.host import streams
from accel.host.graph import HostGraph
from accel.probe import Rejected

MUTANTS = {}


def caught_by(*tests):
    """Note which tests of the kit must fail for the class."""

    def note(mutant):
        MUTANTS[mutant] = tests
        return mutant

    return note


@caught_by("test_identity")
class ShoutingName(CPUAccelerator):
    name = "CPU"


@caught_by("test_identity")
class FutureContract(CPUAccelerator):
    contract_version = 99


@caught_by("test_capabilities_are_known")
class LacksAWord(CPUAccelerator):
    lacks = ("pining",)


@caught_by("test_probe_answers")
class ProbeIsABool(CPUAccelerator):
    def probe(self):
        return True


@caught_by("test_probe_answers")
class ProbeRaises(CPUAccelerator):
    def probe(self):
        raise OSError("libdevice.so: cannot open shared object file")


@caught_by("test_probe_answers")
class ProbeWithoutAFix(CPUAccelerator):
    def is_available(self):
        return False

    def probe(self):
        return Rejected("no.")


@caught_by("test_probe_answers")
class ProbeContradicts(CPUAccelerator):
    def probe(self):
        return Rejected("no device.", "Buy one.")


@caught_by("test_predicates_are_bools")
class PredicateFallsOffTheEnd(CPUAccelerator):
    def is_fp16_supported(self):
        if super().is_fp16_supported():
            return True


@caught_by("test_signatures_are_the_contracts")
class ArgumentRenamed(CPUAccelerator):
    def memory_allocated(self, device=None):
        return super().memory_allocated(device)


@caught_by("test_signatures_are_the_contracts")
class ArgumentLeftOut(CPUAccelerator):
    def synchronize(self):
        pass


@caught_by("test_signatures_are_the_contracts")
class ArgumentAdded(CPUAccelerator):
    def manual_seed(self, seed, stream):
        super().manual_seed(seed)


@caught_by("test_members_answer_or_say_why")
class AbsentAndUntyped(CPUAccelerator):
    def is_available(self):
        return False

    def probe(self):
        return Rejected("no device.", "Buy one.")

    def current_stream(self, device_index=None):
        missing = None
        return missing.current_stream(device_index)


@caught_by("test_members_answer_or_say_why")
class LackingAndUntyped(CPUAccelerator):
    lacks = ("graphs", "pinning")

    def create_graph(self):
        missing = None
        return missing()


@caught_by("test_device_names")
class OtherDevicesName(CPUAccelerator):
    def device_name(self, device_index=None):
        super().device_name(device_index)
        return "cuda"


@caught_by("test_devices_are_torch_devices")
class DeviceIsText(CPUAccelerator):
    def device(self, device_index=None):
        return self.device_name(device_index)


@caught_by("test_device_index_is_checked")
class IndexIgnored(CPUAccelerator):
    def memory_stats(self, device_index=None):
        return super().memory_stats()


@caught_by("test_device_index_is_checked")
class IndexFromText(CPUAccelerator):
    def set_device(self, device_index):
        super().set_device(int(device_index))


@caught_by("test_device_count")
class CountIsText(CPUAccelerator):
    def device_count(self):
        return "1"


@caught_by("test_device_count")
class CountsNone(CPUAccelerator):
    def device_count(self):
        return 0


@caught_by("test_current_device")
class CurrentDeviceIsText(CPUAccelerator):
    def current_device(self):
        return "0"


@caught_by("test_current_device")
class CurrentDeviceIsADevice(CPUAccelerator):
    def current_device(self):
        return torch.device("cpu")


@caught_by("test_no_device_beyond_the_last")
class LocalRankRefused(CPUAccelerator):
    def set_device(self, device_index):
        super().set_device(device_index)
        if device_index > 0:
            raise ValueError("there is one device")


@caught_by("test_synchronize")
class SynchronizeAnswers(CPUAccelerator):
    def synchronize(self, device_index=None):
        super().synchronize(device_index)
        return True


@caught_by("test_on_accelerator")
class EverythingIsHere(CPUAccelerator):
    def on_accelerator(self, tensor):
        return True


@caught_by("test_on_accelerator")
class NothingIsHere(CPUAccelerator):
    def on_accelerator(self, tensor):
        return str(tensor.device).startswith("cpu:")


@caught_by("test_the_device_computes")
class NoStorage(CPUAccelerator):
    def device(self, device_index=None):
        return torch.device("meta")


@caught_by("test_device_properties")
class PropertiesAreADict(CPUAccelerator):
    def device_properties(self, device_index=None):
        return {"name": "cpu", "total_memory": self.total_memory(device_index)}


@caught_by("test_seeds_repeat")
class SeedDropped(CPUAccelerator):
    def manual_seed_all(self, seed):
        pass


@caught_by("test_seeds_repeat")
class OneSeedForAll(CPUAccelerator):
    def manual_seed(self, seed):
        super().manual_seed(0)


@caught_by("test_seeds_are_the_devices_alone")
class SeedsEverything(CPUAccelerator):
    def manual_seed(self, seed):
        super().manual_seed(seed)
        random.seed(seed)


@caught_by("test_initial_seed")
class NoInitialSeed(CPUAccelerator):
    def initial_seed(self):
        pass


@caught_by("test_states_round_trip")
class StateByIndexIsLost(CPUAccelerator):
    def set_rng_state(self, new_state, device_index=None):
        if device_index is None:
            super().set_rng_state(new_state)


@caught_by("test_states_round_trip")
class StateTakesNoIndex(CPUAccelerator):
    def set_rng_state(self, new_state, device_index=None):
        if device_index is None:
            return torch.set_rng_state(new_state)
        return torch.set_rng_state(new_state, device_index)


@caught_by("test_states_are_copies")
class StateReadOnce(CPUAccelerator):
    _state = None

    def get_rng_state(self, device_index=None):
        if self._state is None:
            self._state = super().get_rng_state(device_index)
        return self._state


@caught_by("test_default_generators")
class GeneratorOfItsOwn(CPUAccelerator):
    def default_generator(self, device_index=None):
        super().default_generator(device_index)
        return torch.Generator()


@caught_by("test_random_module")
class AnotherRandom(CPUAccelerator):
    def random(self):
        return random


@caught_by("test_stream_scopes_restore")
class ScopeKeptAfterErrors(CPUAccelerator):
    @contextmanager
    def stream(self, stream):
        before = self.current_stream()
        if stream is not None:
            self.set_stream(stream)
        yield
        self.set_stream(before)


@caught_by("test_stream_scopes_restore")
class ScopeRestoresTheDefault(CPUAccelerator):
    @contextmanager
    def stream(self, stream):
        if stream is not None:
            self.set_stream(stream)
        try:
            yield
        finally:
            self.set_stream(self.default_stream())


@caught_by("test_no_stream_changes_nothing")
class NoStreamIsTheDefault(CPUAccelerator):
    def stream(self, stream):
        return streams.HostStream() if stream is None else super().stream(stream)


@caught_by("test_no_stream_changes_nothing", "test_stream_scopes_restore")
class ScopeIsNone(CPUAccelerator):
    def stream(self, stream):
        return None


@caught_by("test_set_stream")
class SetStreamDoesNothing(CPUAccelerator):
    def set_stream(self, stream):
        pass


@caught_by("test_default_stream")
class DefaultFollowsTheCurrent(CPUAccelerator):
    def default_stream(self, device_index=None):
        return self.current_stream(device_index)


@caught_by("test_streams_by_index")
class NoStreamByIndex(CPUAccelerator):
    def current_stream(self, device_index=None):
        found = super().current_stream(device_index)
        return found if device_index is None else None


class _UnsureStream(streams.HostStream):
    def query(self):
        return None


@caught_by("test_streams_wait_for_one_another")
class StreamsDoNotKnow(CPUAccelerator):
    @property
    def Stream(self):
        return _UnsureStream


class _ForgetfulStream(streams.HostStream):
    def record_event(self, event=None):
        return None

    def wait_event(self, event):
        event.wait(self)


@caught_by("test_streams_wait_for_one_another")
class StreamsRecordNothing(CPUAccelerator):
    @property
    def Stream(self):
        return _ForgetfulStream


class _EventInSeconds(streams.HostEvent):
    def elapsed_time(self, end_event):
        return super().elapsed_time(end_event) / 1000


@caught_by("test_events_time_in_milliseconds")
class TimesInSeconds(CPUAccelerator):
    @property
    def Event(self):
        return _EventInSeconds


@caught_by("test_events_time_in_milliseconds", "test_events_without_timing_refuse")
class EventsTakeNoTiming(CPUAccelerator):
    @property
    def Event(self):
        return torch.cpu.Event


class _UnsureEvent(streams.HostEvent):
    def query(self):
        return self._recorded_ns


@caught_by("test_events_are_waited_for")
class EventsAnswerTheTime(CPUAccelerator):
    @property
    def Event(self):
        return _UnsureEvent


class _AlwaysTimed(streams.HostEvent):
    def __init__(self, enable_timing=False):
        super().__init__(enable_timing=True)


@caught_by("test_events_without_timing_refuse")
class TimesUnasked(CPUAccelerator):
    @property
    def Event(self):
        return _AlwaysTimed


@caught_by("test_graphs_replay")
class ReplayDoesNothing(CPUAccelerator):
    def replay_graph(self, graph):
        pass


@caught_by("test_graphs_replay")
class CaptureDoesNotRecord(CPUAccelerator):
    def capture_to_graph(self, graph, pool=None, stream=None):
        return nullcontext()


class _ReplaysAnything(HostGraph):
    def replay(self):
        if self._captured:
            super().replay()


@caught_by("test_empty_graphs_refuse")
class EmptyGraphsReplay(CPUAccelerator):
    def create_graph(self):
        return _ReplaysAnything()


@caught_by("test_failed_captures_end")
class FailedCaptureKeepsItsStream(CPUAccelerator):
    @contextmanager
    def capture_to_graph(self, graph, pool=None, stream=None):
        before = self.current_stream()
        self.set_stream(self.Stream())
        with super().capture_to_graph(graph):
            yield
        self.set_stream(before)


@caught_by("test_memory_is_counted")
class CountsNoMemory(CPUAccelerator):
    def memory_allocated(self, device_index=None):
        super().memory_allocated(device_index)
        return 0


@caught_by("test_memory_is_counted")
class StatsUnderOtherNames(CPUAccelerator):
    def memory_stats(self, device_index=None):
        return {"InUse": super().memory_allocated(device_index)}


@caught_by("test_reserved_covers_allocated")
class CountsInKiB(CPUAccelerator):
    def memory_reserved(self, device_index=None):
        return super().memory_reserved(device_index) // 1024


@caught_by("test_peaks_are_kept_and_reset")
class PeakIsTheCurrent(CPUAccelerator):
    def max_memory_allocated(self, device_index=None):
        return self.memory_allocated(device_index)


@caught_by("test_peaks_are_kept_and_reset")
class PeakNeverResets(CPUAccelerator):
    def reset_peak_memory_stats(self, device_index=None):
        self._index(device_index, "reset_peak_memory_stats")


@caught_by("test_peaks_are_kept_and_reset")
class OlderResetIsMissing(CPUAccelerator):
    def reset_max_memory_cached(self, device_index=None):
        self._index(device_index, "reset_max_memory_cached")


@caught_by("test_total_and_available")
class TotalInMiB(CPUAccelerator):
    def total_memory(self, device_index=None):
        return super().total_memory(device_index) >> 20


@caught_by("test_total_and_available")
class MoreFreeThanThereIs(CPUAccelerator):
    def available_memory(self, device_index=None):
        super().available_memory(device_index)
        return super().total_memory() + 1


@caught_by("test_emptying_the_cache_spares_tensors")
class EmptyingAnswers(CPUAccelerator):
    def empty_cache(self):
        return 0


@caught_by("test_pinning_keeps_values")
class PinningForgets(CPUAccelerator):
    def _pin_memory(self, tensor):
        return torch.zeros_like(tensor)


@caught_by("test_pinning_keeps_values")
class PinningKeepsTheShape(CPUAccelerator):
    def pin_memory(self, tensor, make_copy=True, match_shape=True):
        return tensor


@caught_by("test_memory_is_pinned")
class PinsNothing(CPUAccelerator):
    lacks = ()

    def _pin_memory(self, tensor):
        return tensor


@caught_by("test_supported_dtypes")
class DtypesContradict(CPUAccelerator):
    def supported_dtypes(self):
        return [torch.float32]

    def is_bf16_supported(self):
        return True


@caught_by("test_supported_dtypes_compute")
class SupportsWhatItCannot(CPUAccelerator):
    def supported_dtypes(self):
        return [torch.float32, torch.float8_e4m3fn]


@caught_by("test_tensor_factories")
class FactoriesAreTensor(CPUAccelerator):
    @property
    def FloatTensor(self):
        return partial(torch.tensor, dtype=torch.float32)


@caught_by("test_tensor_factories")
class FactoryOfAnotherDtype(CPUAccelerator):
    @property
    def HalfTensor(self):
        return self.BFloat16Tensor


@caught_by("test_ranges")
class RangeKeptOpenAfterErrors(CPUAccelerator):
    @contextmanager
    def range(self, msg, domain=None, category=None):
        self.range_push(msg)
        yield
        self.range_pop()


@caught_by("test_ranges")
class PopsNothingSilently(CPUAccelerator):
    def range_pop(self, domain=None):
        with suppress(RuntimeError):
            super().range_pop(domain)


@caught_by("test_lazy_calls_are_called_once")
class CallbackDropped(CPUAccelerator):
    def lazy_call(self, callback):
        pass


@caught_by("test_lazy_calls_are_called_once")
class CallbackCalledTwice(CPUAccelerator):
    def lazy_call(self, callback):
        callback()
        callback()


@caught_by("test_communication_backend")
class FakeCommunication(CPUAccelerator):
    communication_backend = "fake"


@caught_by("test_compile_backend")
class TakesAnyCompileBackend(CPUAccelerator):
    def set_compile_backend(self, backend):
        self._chosen_compile_backend = backend


@caught_by("test_compile_backend")
class CompileBackendOfAll(CPUAccelerator):
    def set_compile_backend(self, backend):
        super().set_compile_backend(backend)
        type(self).compile_backend = backend

    def get_compile_backend(self):
        return type(self).compile_backend


@caught_by("test_visible_devices")
class WritesItsOwnEnvironment(CPUAccelerator):
    visible_devices_env = ("MUTANT_VISIBLE_DEVICES",)

    def set_visible_devices_envs(self, current_env, local_accelerator_ids):
        super().set_visible_devices_envs(current_env, local_accelerator_ids)
        super().set_visible_devices_envs(os.environ, local_accelerator_ids)


@caught_by("test_exported_variables")
class ListIsShared(CPUAccelerator):
    names = ["NCCL"]  # noqa: RUF012 - the defect

    def export_envs(self):
        return self.names


@caught_by("test_op_builders")
class UnknownOpIsNone(CPUAccelerator):
    def get_op_builder(self, class_name):
        try:
            return super().get_op_builder(class_name)
        except UnknownOp:
            return None


@caught_by("test_build_answers")
class NoCapabilities(CPUAccelerator):
    def default_compute_capabilities(self):
        return None


@caught_by("test_the_name_traces")
class NameBreaksTheGraph(CPUAccelerator):
    def device_name(self, device_index=None):
        torch._dynamo.graph_break()
        return super().device_name(device_index)


@caught_by("test_making_and_probing_change_nothing")
class ConstructorWithEffects(CPUAccelerator):
    def __init__(self):
        os.environ["MUTANT_WAS_MADE"] = "1"
        torch.use_deterministic_algorithms(True)


@caught_by("test_making_and_probing_change_nothing")
class ProbeRunsACommand(CPUAccelerator):
    def probe(self):
        os.system("true")
        return super().probe()


@caught_by("test_probing_then_forking")
class ContextInTheProbe(CPUAccelerator):
    _owner = None

    def probe(self):
        if self._owner is None:
            self._owner = os.getpid()
        if self._owner != os.getpid():
            raise RuntimeError("Cannot re-initialize the device in a forked subprocess")
        return super().probe()


@caught_by("test_threads_ask_at_once")
class AClassForEveryCall(CPUAccelerator):
    def get_op_builder(self, class_name):
        found = super().get_op_builder(class_name)
        return type(found.__name__, (found,), {})


@caught_by("test_current_device_by_torchs_names")
class OlderNamesDoNothing(CPUAccelerator):
    def set_device_idx(self, device_index):
        self._index(device_index, "set_device_idx")
        return device_index


@caught_by("test_device_scopes_restore")
class DeviceScopeSwallows(CPUAccelerator):
    def device_index(self, device_index):
        super().device_index(device_index)
        return suppress(KeyError)


@caught_by("test_device_properties")
class NameOfItsOwn(CPUAccelerator):
    def get_device_name(self, device_index=None):
        return "cpu" + super().get_device_name(device_index)


@caught_by("test_device_capability")
class CapabilityIsText(CPUAccelerator):
    def get_device_capability(self, device_index=None):
        super().get_device_capability(device_index)
        return "9.0"


@caught_by("test_device_capability")
class AnotherCapability(CPUAccelerator):
    def get_device_capability(self, device_index=None):
        super().get_device_capability(device_index)
        return 9, 0


@caught_by("test_float64_is_float64")
class DoubleIsFloat(CPUAccelerator):
    def device(self, device_index=None):
        # What is computed on "meta" has no values, which float64 with too few digits is like.
        return torch.device("meta")


@caught_by("test_all_states_round_trip")
class StatesAreATensor(CPUAccelerator):
    def get_rng_state_all(self):
        return torch.stack(super().get_rng_state_all())


@caught_by("test_all_states_round_trip")
class StatesTooManyAreDropped(CPUAccelerator):
    def set_rng_state_all(self, new_states):
        super().set_rng_state_all(new_states[: self.device_count()])


@caught_by("test_total_and_available")
class InfoTheOtherWayRound(CPUAccelerator):
    def mem_get_info(self, device_index=None):
        return super().mem_get_info(device_index)[::-1]


@caught_by("test_accumulated_counters_restart")
class AccumulatesForEver(CPUAccelerator):
    def memory_stats(self, device_index=None):
        return super().memory_stats(device_index) | {"allocated_bytes.all.allocated": 1}


@caught_by("test_emptying_the_host_cache_spares_tensors")
class HostCacheCounts(CPUAccelerator):
    def empty_host_cache(self):
        return 0


@caught_by("test_empty_host_memory")
class EmptyIsElsewhere(CPUAccelerator):
    def pin_empty_like(self, tensor, device="cpu", dtype=None):
        return torch.empty_like(tensor)


@caught_by("test_empty_host_memory")
class EmptyTakesAnyDevice(CPUAccelerator):
    def pin_empty(self, *size, dtype, device="cpu"):
        return super().pin_empty(*size, dtype=dtype)


@caught_by("test_registered_host_memory")
class RegistersInNameOnly(CPUAccelerator):
    def register_host_memory(self, address, num_bytes):
        return True


@caught_by("test_captures_are_seen")
class CaptureUnseen(CPUAccelerator):
    def is_current_stream_capturing(self):
        return False


class _GraphThatForgets(HostGraph):
    def __exit__(self, *exc_info):
        super().__exit__(*exc_info)
        self._calls.pop()


@caught_by("test_graphs_as_scopes")
class ScopedGraphForgets(CPUAccelerator):
    @property
    def Graph(self):
        return _GraphThatForgets


@caught_by("test_autocast")
class AutocastIgnoresItsDtype(CPUAccelerator):
    def autocast(self, dtype=None, enabled=True, cache_enabled=None):
        return super().autocast(torch.float16, enabled, cache_enabled)


@caught_by("test_autocast_decorates")
class AutocastOfAnother(CPUAccelerator):
    def amp(self):
        found = super().amp()
        found._members = OtherDevicesName()
        found._members.device_type = "xpu"
        return found


@caught_by("test_scaler")
class ScalerIsOff(CPUAccelerator):
    def GradScaler(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        enabled=True,
    ):
        return super().GradScaler(enabled=False)
