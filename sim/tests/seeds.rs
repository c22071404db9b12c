//! Ten thousand worlds, each with other faults, in which nothing that must hold is broken.

#[test]
fn no_seed_of_ten_thousand_breaks_a_run() {
    let report = sim::many(0, 10_000);
    println!("figure sim.seeds {} worlds", report.seeds);
    println!("figure sim.seconds {:.1} s", report.seconds);
    let faults: Vec<_> = report.faults.iter().take(10).collect();
    assert!(faults.is_empty(), "see them happen by `make sim SEED=n`: {faults:?}");
    assert!(report.rounds > 50_000, "worlds in which nothing is committed show nothing");
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    for seed in [3, 1_711, 9_999] {
        let worlds = [0, 1].map(|_| sim::simulate(seed, sim::Trace::On));
        assert_eq!(worlds[0].trace, worlds[1].trace);
        assert!(worlds[0].trace.lines().count() > 20);
    }
}
