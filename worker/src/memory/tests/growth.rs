//! When a peak is told again, and which cards share a memory.

use super::*;

#[test]
fn a_peak_is_told_again_once_it_has_grown_by_more_than_a_hundredth() {
    let now = peak(&card(0).device).unwrap();
    let asked = |told: u64| {
        let mut memory = Memory { cards: vec![card(0)], told: vec![told] };
        memory.news().len()
    };
    assert_eq!(asked(0), 1);
    assert_eq!(asked(now / 2), 1);
    assert_eq!(asked(u64::MAX / 2), 0, "the high-water mark was higher");
    let mut memory = Memory { cards: vec![card(0)], told: vec![now / 2] };
    assert_eq!(memory.news().len(), 1);
    assert!(memory.told[0] >= now, "what was told is kept");
}

#[test]
fn a_card_that_is_not_here_has_no_peak_and_no_news() {
    if tch::Cuda::device_count() == 0 {
        assert_eq!(peak(&cuda(0).device), None);
        assert_eq!(Memory::new(&[cuda(0), cuda(1)]).news(), []);
        // The host's devices beside it are still told of, by their own number.
        let news = Memory::new(&[cuda(0), card(1), card(2)]).news();
        let [WorkerEvent::Memory { device: 1, planned_bytes, .. }] = news[..] else {
            panic!("{news:?}")
        };
        assert_eq!(planned_bytes, 2 << 30);
    }
}

#[test]
fn only_the_host_s_devices_share_their_memory() {
    let cards = [card(0), cuda(0), card(1), cuda(1)];
    let names =
        |card: &CardSpec| alike(&cards, card).map(|card| card.product.clone()).collect::<Vec<_>>();
    assert_eq!(names(&cards[0]), ["cpu 0", "cpu 1"]);
    assert_eq!(names(&cards[3]), ["card 1"]);
    assert_eq!(names(&cards[1]), ["card 0"]);
}

#[test]
fn a_card_that_the_rank_does_not_have_explains_nothing() {
    for cards in [vec![], vec![cuda(0)], vec![card(0), cuda(0)]] {
        let error = explain(failed("CUDA out of memory. GPU 5 has a total"), &cards);
        assert!(matches!(error, RunError::Model(_)), "{cards:?}: {error}");
    }
}

#[test]
fn what_the_kernel_writes_is_read_only_in_its_own_form() {
    for text in [
        "",
        "VmHWM:",
        "VmHWM:\t12",
        "VmHWM:\t12 MB",
        "VmHWM:\t-1 kB",
        "VmHWM:\t1.5 kB",
        "VmHWMX:\t12 kB",
        " VmHWM:\t12 kB",
    ] {
        assert_eq!(resident_peak(text), None, "{text:?}");
    }
    assert_eq!(resident_peak("VmHWM:12kB"), Some(12 << 10));
    assert_eq!(resident_peak("VmHWM:\t0 kB\n"), Some(0));
}

#[test]
fn the_number_of_a_full_card_is_read_wherever_it_stands_in_the_message() {
    for (said, index) in [
        ("CUDA out of memory. GPU 0 has", Some(0)),
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 12 has", Some(12)),
        ("CUDA out of memory. GPU has", None),
        ("CUDA out of memory. GPU 99999999999 has", None),
        ("cudaErrorMemoryAllocation: CUDA error: out of memory", None),
    ] {
        assert_eq!(full(said), Some(Full::Cuda(index)), "{said}");
    }
    // The host's words count first: a card's memory is copied through it.
    let both = "CUDA out of memory ... DefaultCPUAllocator: can't allocate memory";
    assert_eq!(full(both), Some(Full::Host));
}
