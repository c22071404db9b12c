//! A whole probe with sizes that take no time, and command lines that are refused.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: ProbeArguments,
}

fn parse(line: &str) -> Result<ProbeArguments, String> {
    let words = std::iter::once("probe").chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.arguments).map_err(|error| error.to_string())
}

#[test]
fn a_probe_of_the_cpu_is_a_record_that_is_read_back() {
    let mut notes = Vec::new();
    let arguments = parse("--node lab --cpu").unwrap();
    let record = measure(&arguments, &Extent::tiny(), &mut notes).unwrap();
    let text = serde_json::to_string_pretty(&record).unwrap();
    assert_eq!(serde_json::from_str::<Capability>(&text).unwrap(), record);
    assert_eq!(record.node, "lab");
    let cpu = record.devices.last().unwrap();
    assert_eq!((cpu.product.as_str(), cpu.index, cpu.reached.bf16_tflops), ("cpu", None, None));
    assert!(cpu.reached.f32_tflops > 0.0 && cpu.reached.bandwidth_gbps > 0.0, "{cpu:?}");
    assert!(0 < cpu.free_bytes && cpu.free_bytes <= cpu.memory_bytes, "{cpu:?}");
    let bytes = |curve: Option<Curve>| -> Vec<u64> {
        Vec::from(curve.unwrap()).iter().map(|point| point.bytes).collect()
    };
    assert_eq!(bytes(record.links.node), [1 << 10, 4 << 10, 16 << 10]);
    assert_eq!(bytes(record.all_reduce), [1 << 10, 4 << 10, 16 << 10]);
    assert_eq!((record.links.network, record.uplink), (None, None));
}

#[test]
fn a_peer_is_measured_as_a_node_of_the_island_or_as_what_lies_beyond_the_uplink() {
    for (option, beyond) in [("", false), ("--uplink", true)] {
        let waiting = peer::Waiting::bind("127.0.0.1:0").unwrap();
        let line = format!("--peer {} {option}", waiting.address());
        let served = std::thread::spawn(move || waiting.answer());
        let record = measure(&parse(&line).unwrap(), &Extent::tiny(), &mut Vec::new()).unwrap();
        served.join().unwrap().unwrap();
        assert_eq!(record.links.network.is_none(), beyond);
        assert_eq!(record.uplink.is_some(), beyond);
    }
}

#[test]
fn little_memory_leaves_out_large_messages_and_says_so() {
    let mut notes = Vec::new();
    assert_eq!(Extent::tiny().messages_within(1 << 30, &mut notes).len(), 3);
    assert!(notes.is_empty());
    assert_eq!(Extent::tiny().messages_within(300 << 10, &mut notes), [1 << 10, 4 << 10]);
    assert_eq!(Extent::tiny().messages_within(0, &mut notes), [1 << 10, 4 << 10]);
    let said = "messages of 16384 bytes and more are left out: 0 bytes are free";
    assert_eq!(notes.last().map(String::as_str), Some(said));
}

#[test]
fn a_device_without_room_is_told_of_and_one_that_is_full_refused() {
    let extent = Extent::tiny().cpu;
    let memory = |free| host::Memory { total: 1 << 30, free };
    let mut notes = Vec::new();
    device::cpu(memory(16 << 10), &extent, &mut notes).unwrap();
    let said = ["the CPU has no room for matrices of side 32", "the CPU: memory was measured with"];
    assert!(notes.iter().zip(said).all(|(note, said)| note.starts_with(said)), "{notes:?}");
    assert_eq!(notes.len(), 2);
    let refused = device::cpu(memory(0), &extent, &mut notes).unwrap_err().to_string();
    assert!(refused.contains("end something that uses its memory"), "{refused}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let table = [
        ("--uplink", "--peer"),
        ("--serve 0.0.0.0:1 --cpu", "cannot be used with"),
        ("--serve 0.0.0.0:1 --out x", "cannot be used with"),
        ("--serve 0.0.0.0:1 --peer b:1", "cannot be used with"),
        ("--serve 7000", "write HOST:PORT"),
        ("--peer lab", "write HOST:PORT"),
        ("--node=", "a name has 1 to 253 bytes"),
        ("more", "unexpected argument"),
    ];
    for (line, said) in table {
        let refused = parse(line).unwrap_err();
        assert!(refused.contains(said), "{line}: {refused}");
    }
}

#[test]
fn a_file_in_a_folder_that_is_not_there_is_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("missing").join("record.json");
    let arguments = parse(&format!("--out {}", out.display())).unwrap();
    let refused = probe_command(&arguments).unwrap_err().to_string();
    assert!(refused.contains("make it first"), "{refused}");
    let here = folder.path().join("record.json");
    assert!(check_out(&parse(&format!("--out {}", here.display())).unwrap()).is_ok());
    assert!(check_out(&parse("--out record.json").unwrap()).is_ok());
}
