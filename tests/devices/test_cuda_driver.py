"""The NVML binding against a stand-in library compiled here: same symbols, known answers."""

import shutil
import subprocess

import pytest

from accel.nvidia.driver import NvmlError, free_memory, read_driver
from accel.probe import Rejected

STAND_IN = r"""
#include <stdio.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static int sessions;
#ifndef INIT
#define INIT 0
#endif
int nvmlInit_v2(void) { if (INIT == 0) sessions++; return INIT; }
int nvmlShutdown(void) { sessions--; return 0; }
int open_sessions(void) { return sessions; }
const char *nvmlErrorString(int code) {
  return code == 18 ? "Driver/library version mismatch" : "?";
}
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12080; return 0; }
int nvmlSystemGetDriverVersion(char *t, unsigned n) { snprintf(t, n, "570.86.15"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
/* Handles: 1 and 2 are GPUs, 20 and 22 the MIG instances of 2. */
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetHandleByUUID(const char *u, void **h) {
  if (strcmp(u, "MIG-20")) return 6;
  *h = (void *)20L;
  return 0;
}
int nvmlDeviceGetName(void *h, char *t, unsigned n) {
  (void)h;
  snprintf(t, n, "Simulated GPU");
  return 0;
}
int nvmlDeviceGetUUID(void *h, char *t, unsigned n) {
  snprintf(t, n, (long)h >= 20 ? "MIG-%ld" : "GPU-%ld", (long)h);
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *h, int *a, int *b) {
  *a = 9;
  *b = (long)h == 1 ? 0 : 1;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
  if ((long)h == 1) return 3;
  m->total = (long)h * 1000ull;
  m->free = (long)h * 400ull;
  m->used = m->total - m->free;
  return 0;
}
typedef struct {
  char old[16];
  unsigned domain, bus, device, id, subsystem;
  char text[32];
} pci_t;
int nvmlDeviceGetPciInfo_v3(void *h, pci_t *p) {
  if ((long)h == 1) return 3;
  p->domain = 1;
  p->bus = 0xd8;
  p->device = 2;
  return 0;
}
int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *next) {
  if ((long)h == 1) return 3;
  *now = *next = 1;
  return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *n) { (void)h; *n = 3; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned i, void **m) {
  if (i == 1) return 6;
  *m = (void *)((long)h * 10 + i);
  return 0;
}
"""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def compiled(folder, *flags):
    source = folder / "nvml.c"
    source.write_text(STAND_IN)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", *flags, source, "-o", library], check=True)
    return str(library)


def test_gpus_and_mig_instances_are_read(tmp_path):
    driver = read_driver(compiled(tmp_path))
    assert (driver.version, driver.cuda) == ("570.86.15", (12, 8))
    plain, split = driver.gpus
    assert (plain.name, plain.uuid, plain.capability) == ("Simulated GPU", "GPU-1", (9, 0))
    assert plain.mig is None
    assert plain.memory == 0
    assert plain.pci == "" and split.pci == "0001:d8:02.0"
    assert {instance.pci for instance in split.mig} == {split.pci}
    assert (split.capability, split.memory) == ((9, 1), 2000)
    assert [(instance.uuid, instance.memory) for instance in split.mig] == [
        ("MIG-20", 20_000),
        ("MIG-22", 22_000),
    ]


def test_free_memory_is_of_the_instance(tmp_path):
    library = compiled(tmp_path)
    assert free_memory("MIG-20", library) == 8000
    with pytest.raises(NvmlError, match="nvmlDeviceGetHandleByUUID"):
        free_memory("GPU-unknown", library)


def test_every_session_is_closed_again(tmp_path):
    import ctypes

    library = compiled(tmp_path)
    read_driver(library)
    with pytest.raises(NvmlError):
        free_memory("GPU-unknown", library)
    assert ctypes.CDLL(library).open_sessions() == 0


def test_a_driver_that_does_not_answer_is_a_rejection_with_its_words(tmp_path):
    answer = read_driver(compiled(tmp_path, "-DINIT=18"))
    assert isinstance(answer, Rejected)
    assert "nvmlInit_v2: Driver/library version mismatch (18)" in answer.reason
