//! Peaks, and errors for want of room.

use contract::exit::EXIT_MEMORY;
use plan::spec::Precision;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::model::ModelError;
use crate::parallel::PeerError;

mod growth;

fn card(index: u32) -> CardSpec {
    CardSpec {
        product: format!("cpu {index}"),
        device: DeviceSpec::Cpu { threads: 1, speed: 1.0 },
        memory_bytes: 1 << 34,
        planned_bytes: 1 << 30,
    }
}

#[test]
fn the_high_water_mark_is_read_from_what_the_kernel_writes() {
    let status = "Name:\tworker\nVmPeak:\t  900 kB\nVmHWM:\t   512 kB\nVmRSS:\t  1 kB\n";
    assert_eq!(resident_peak(status), Some(512 << 10));
    assert_eq!(resident_peak("VmHWM: many"), None);
}

#[test]
fn devices_of_one_process_are_told_of_once_and_again_only_when_the_peak_grows() {
    let mut memory = Memory::new(&[card(0), card(1)]);
    let news = memory.news();
    let [WorkerEvent::Memory { device: 0, peak_bytes, planned_bytes }] = news[..] else {
        panic!("{news:?}")
    };
    assert!(peak_bytes > 1 << 20);
    assert_eq!(planned_bytes, 2 << 30);
    assert_eq!(memory.news(), []);
}

fn cuda(index: u32) -> CardSpec {
    let device = DeviceSpec::Cuda { index, precision: Precision::F32 };
    CardSpec { product: format!("card {index}"), device, ..card(0) }
}

fn failed(message: &str) -> RunError {
    let operation = "add up tensors";
    let message = message.to_owned();
    RunError::Model(ModelError::Peers(PeerError::Torch { operation, message }))
}

#[test]
fn what_libtorch_says_tells_which_memory_is_full() {
    let table = [
        (
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate \
             memory: you tried to allocate 64 bytes. Error code 12 (Cannot allocate memory)",
            Some(Full::Host),
        ),
        ("std::bad_alloc", Some(Full::Host)),
        (
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 3 has a total capacity of 23.64 \
             GiB of which 1.02 GiB is free.",
            Some(Full::Cuda(Some(3))),
        ),
        ("CUDA error: out of memory", Some(Full::Cuda(None))),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", Some(Full::Cuda(None))),
        ("CUDA error: an illegal memory access was encountered", None),
        ("failed to reach rank 1: it has gone", None),
    ];
    for (said, expected) in table {
        assert_eq!(full(said), expected, "{said}");
    }
}

#[test]
fn the_card_that_is_full_is_named_with_its_plan_and_a_remedy() {
    let cards = [card(0), cuda(0), cuda(1), card(1)];
    let table = [
        ("CUDA out of memory. GPU 1 has", 2, 1 << 30, "devices[].memory"),
        ("CUDA error: out of memory", 1, 1 << 30, "parallelism.pipeline"),
        ("DefaultCPUAllocator: can't allocate", 0, 2 << 30, "this machine's memory"),
    ];
    for (said, index, planned, change) in table {
        let error = explain(failed(said), &cards);
        assert_eq!(error.exit_code(), EXIT_MEMORY, "{said}");
        let RunError::OutOfMemory { device, product, planned_bytes, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*device, *planned_bytes), (index, planned), "{said}");
        assert_eq!(*product, cards[index as usize].product);
        let text = chain(&error);
        assert!(text.contains("16.00 GiB") && text.contains(change), "{text}");
        assert!(text.ends_with(said), "{text}");
    }
}

#[test]
fn other_errors_and_a_host_beside_its_cards_are_left_as_they_are() {
    let error = explain(failed("shapes differ"), &[card(0)]);
    assert!(matches!(error, RunError::Model(_)), "{error}");
    let error = explain(failed("DefaultCPUAllocator: can't allocate"), &[cuda(0)]);
    assert!(matches!(error, RunError::Model(_)), "{error}");
}

#[test]
fn a_buffer_that_is_too_large_for_this_machine_is_recognised() {
    let error = Tensor::f_zeros([1 << 60], (Kind::Float, Device::Cpu)).unwrap_err();
    assert!(error.to_string().contains("\nframe #"), "libtorch adds its stack: {error}");
    let error = explain(ModelError::from(error).into(), &[card(0)]);
    let said = chain(&error);
    assert_eq!(error.exit_code(), EXIT_MEMORY, "{said}");
    assert!(said.ends_with("(Cannot allocate memory)") && !said.contains('\n'), "{said}");
}
