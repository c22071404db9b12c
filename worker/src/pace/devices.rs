//! Which devices are slowed down, and by how much.

use plan::spec::Precision;

use super::*;

fn pace(device: DeviceSpec) -> Pace {
    Pace::new(&device, Interrupt::default())
}

#[test]
fn only_an_emulated_card_that_is_slower_than_the_machine_rests() {
    let table = [
        (0.25, 0.25),
        (1e-3, 1e-3),
        (1.0, 1.0),
        (1.5, 1.0),
        (0.0, 1.0),
        (-0.5, 1.0),
        (f64::NAN, 1.0),
        (f64::INFINITY, 1.0),
    ];
    for (speed, expected) in table {
        assert_eq!(pace(DeviceSpec::Cpu { threads: 1, speed }).speed, expected, "{speed}");
    }
    assert_eq!(pace(DeviceSpec::Cuda { index: 0, precision: Precision::F32 }).speed, 1.0);
}

#[test]
fn work_and_rest_together_take_as_long_as_the_slower_card_works() {
    for (speed, work) in [(0.5, 3), (0.1, 7), (0.9, 10), (0.01, 1)] {
        let work = Duration::from_secs(work);
        let all = (work + rest(work, speed)).as_secs_f64();
        assert!((all * speed - work.as_secs_f64()).abs() < 1e-6, "{speed}: {all}");
    }
    assert_eq!(rest(Duration::ZERO, 0.5), Duration::ZERO);
    assert_eq!(rest(Duration::from_secs(1), 2.0), Duration::ZERO, "no card works ahead");
}

#[test]
fn processor_time_does_not_run_backwards() {
    let mut last = processor_time();
    for _ in 0..1000 {
        let now = processor_time();
        assert!(now >= last, "{now:?} {last:?}");
        last = now;
    }
}
