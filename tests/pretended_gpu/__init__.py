"""A pretended GPU: a device that computes on the CPU, and refuses and waits where CUDA refuses and waits.

    process   a process of its own, in which functions are called on it: the fixture `pretended_gpu` of all tests
    child     what that process does
    pretend   the context in which PyTorch, and the engine, find a GPU
    tensors   its tensors: wrappers around tensors on the CPU; every operation on them passes through here
    refusals  what CUDA refuses of an operation
    waits     where the host waits for the device, and copies that are not there before it has waited
    autocast  CUDA's lists for mixed precision
    cases     whole runs of the methods on it
    engine    what runs do on it beside computing: random numbers, precision, determinism
    faults    planted faults, by which the device itself is tested

It is made of PyTorch's device type for other backends (`privateuseone`), since operations on `cuda` itself ask a driver
that is not there. That device type gets its name once in a process, hence a process of its own. What it cannot show:
fused attention, other results of other kernels (nondeterminism, TF32), memory, streams that overlap, several GPUs at
work. A function that is called on it gets `gpu`, its `Record`:

    def a_step_waits_nowhere(gpu):
        x = torch.ones(3, device="gpu")
        with gpu.watched() as seen:
            (x * 2).sum().item()
        assert seen.waits == {("item", "tests/somewhere.py:5"): 1}

    def test_it(pretended_gpu):
        pretended_gpu("tests.somewhere:a_step_waits_nowhere")
"""
