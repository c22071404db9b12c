//! Tests of nodes as kubectl prints them, right and wrong.

use plan::cluster::{NodeCard, Reached};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::selector::NodeSelector;

/// The text that kubectl prints of two nodes, shortened; tests change a line.
const LIST: &str = r#"apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata:
    creationTimestamp: "2026-10-01T08:00:00Z"
    labels:
      kubernetes.io/hostname: gpu-1
      nvidia.com/gpu.clique: 7a2b.1
      nvidia.com/gpu.count: "8"
      nvidia.com/gpu.memory: "81559"
      nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3
      nvidia.com/gpu.replicas: "1"
      topology.kubernetes.io/rack: r1
      topology.kubernetes.io/zone: east
    name: gpu-1.example
  spec:
    podCIDR: 10.0.1.0/24
  status:
    allocatable:
      cpu: "96"
      memory: 1056Gi
      nvidia.com/gpu: "8"
    conditions:
    - lastHeartbeatTime: "2026-10-01T09:00:00Z"
      message: kubelet is posting ready status
      reason: KubeletReady
      status: "True"
      type: Ready
- apiVersion: v1
  kind: Node
  metadata:
    labels:
      heteroloco.dev/rack: shelf
      nvidia.com/gpu.count: "2"
      nvidia.com/gpu.memory: "24564"
      nvidia.com/gpu.product: NVIDIA-GeForce-RTX-4090
      topology.kubernetes.io/rack: r2
    name: desk
  status:
    allocatable:
      nvidia.com/gpu: "2"
kind: List
metadata:
  resourceVersion: ""
"#;

const H100: &str = "NVIDIA-H100-80GB-HBM3";

fn read(text: &str) -> FoundNodes {
    nodes(text).expect(text)
}

/// LIST with a line changed.
fn changed(right: &str, wrong: &str) -> String {
    assert!(LIST.contains(right), "{right}");
    LIST.replacen(right, wrong, 1)
}

fn topology([zone, rack, clique]: [&str; 3]) -> Topology {
    let [zone, rack, clique] =
        [zone, rack, clique].map(|text| (!text.is_empty()).then(|| text.to_owned()));
    Topology { zone, rack, clique }
}

/// Each node's name, number of cards, product and MiB of each.
fn short(found: &FoundNodes) -> Vec<(&str, usize, &str, u64)> {
    let nodes = found.nodes.iter().map(|(node, _)| {
        let card = &node.cards[0];
        assert!(node.cards.iter().all(|other| other == card && card.measured.is_none()));
        (node.name.as_str(), node.cards.len(), card.product.as_str(), card.memory >> 20)
    });
    nodes.collect()
}

#[test]
fn nodes_have_the_cards_and_the_place_that_their_labels_say() {
    let found = read(LIST);
    let expected = [
        ("gpu-1.example", 8, "NVIDIA-H100-80GB-HBM3", 81_559),
        ("desk", 2, "NVIDIA-GeForce-RTX-4090", 24_564),
    ];
    assert_eq!(short(&found), expected);
    let places: Vec<_> = found.nodes.iter().map(|(node, _)| node.topology.clone()).collect();
    assert_eq!(places, [topology(["east", "r1", "7a2b.1"]), topology(["", "shelf", ""])]);
    assert_eq!(found.notes, [""; 0]);
    let hostnames = [("desk", "desk"), ("gpu-1.example", "gpu-1")];
    assert_eq!(found.hostnames(), BTreeMap::from(hostnames));
    let selector = "matchLabels: {topology.kubernetes.io/zone: east}";
    let selector: NodeSelector = serde_yaml::from_str(selector).expect("a selector");
    let selected: Vec<_> = found.nodes.iter().map(|(_, own)| selector.selects(own)).collect();
    assert_eq!(selected, [true, false]);
}

#[test]
fn lists_documents_and_json_say_the_same() {
    let list: serde_json::Value = serde_yaml::from_str(LIST).expect("YAML");
    let items = list["items"].as_array().expect("a list");
    let yaml = |value: &serde_json::Value| serde_yaml::to_string(value).expect("YAML");
    let forms = [
        list.to_string(),
        serde_json::to_string_pretty(&list).expect("JSON"),
        LIST.replace("kind: List", "kind: NodeList"),
        format!("---\n{}---\n# nothing\n---\n{}", yaml(&items[0]), yaml(&items[1])),
        format!("{}\n{}\n", items[0], items[1]),
    ];
    for form in forms {
        assert_eq!(nodes(&form), Ok(read(LIST)), "{form}");
    }
    let flow = "{apiVersion: v1, kind: List, items: []}";
    assert_eq!(nodes(flow), Err(NodesError::None), "YAML that begins like JSON");
}

#[test]
fn only_what_is_allocatable_is_counted() {
    let cards = |text: &str| {
        let found = read(text);
        (found.nodes[0].0.cards.len(), found.notes)
    };
    let fewer = changed("gpu: \"8\"", "gpu: \"6\"");
    let note = "node gpu-1.example: only 6 of 8 cards are allocatable".to_owned();
    assert_eq!(cards(&fewer), (6, vec![note]));
    let more = changed("gpu: \"8\"", "gpu: \"9\"");
    assert_eq!(cards(&more), (8, vec![]), "what is offered beyond the cards are no cards");
    let unlabelled = changed("nvidia.com/gpu.count: \"8\"", "other: label");
    assert_eq!(cards(&unlabelled), (8, vec![]));
    let no_status = changed("allocatable", "capacity");
    assert_eq!(cards(&no_status), (8, vec![]), "without a word of what is allocatable");
}

#[test]
fn memory_that_is_not_labelled_is_the_catalogues_or_has_to_be_set() {
    let known = changed("gpu.memory: \"81559\"", "gpu.family: hopper");
    assert_eq!(short(&read(&known))[0].3, 81_559);
    let unknown = known.replacen("NVIDIA-H100-80GB-HBM3", "NVIDIA-Z1", 1);
    let found = read(&unknown);
    assert_eq!(short(&found)[0], ("gpu-1.example", 8, "NVIDIA-Z1", 0));
    let note = "node gpu-1.example: no label nvidia.com/gpu.memory: set memory of NVIDIA-Z1 in the \
                island's devices";
    assert_eq!(found.notes, [note]);
}

#[test]
fn nodes_whose_cards_cannot_be_used_are_left_out_with_a_note() {
    let product = "gpu.product: NVIDIA-H100-80GB-HBM3";
    let suffix = |suffix: &str| format!("{product}{suffix}");
    let shared =
        "its cards are shared as another resource than nvidia.com/gpu: set renameByDefault";
    let cases = [
        ("replicas: \"1\"", "replicas: \"4\"".into(), shared),
        (
            product,
            suffix("-SHARED"),
            "its cards are shared, and label nvidia.com/gpu.replicas does",
        ),
        (product, suffix("-MIG-INVALID"), "GPU product is MIG-INVALID: cut all cards"),
        (product, "gpu.product: ''".into(), "a GPU product has 1 to 63 bytes, this has 0"),
        (product, "gpu: x".into(), "no label nvidia.com/gpu.product: run GPU feature discovery"),
        ("gpu.count: \"8\"", "gpu.count: many".into(), "label nvidia.com/gpu.count is \"many\""),
        ("gpu.count: \"8\"", "gpu.count: \"-1\"".into(), "label nvidia.com/gpu.count is \"-1\""),
        ("\"81559\"", "\"99999999999\"".into(), "label nvidia.com/gpu.memory is 99999999999 MiB"),
        ("gpu: \"8\"", "gpu: \"0\"".into(), "no nvidia.com/gpu is allocatable: see to NVIDIA's"),
        ("gpu: \"8\"", "gpu.shared: \"8\"".into(), "no nvidia.com/gpu is allocatable: see to"),
        ("gpu: \"8\"", "gpu: 8Ki".into(), "allocatable nvidia.com/gpu is \"8Ki\": a whole number"),
        ("status: \"True\"", "status: Unknown".into(), "not ready: see kubectl describe"),
        ("podCIDR: 10.0.1.0/24", "unschedulable: true".into(), "cordoned: kubectl uncordon it"),
    ];
    for (right, wrong, why) in cases {
        let found = read(&changed(right, &wrong));
        assert_eq!(short(&found).len(), 1, "{wrong}");
        let note = format!("node gpu-1.example: left out, {why}");
        assert!(matches!(&found.notes[..], [one] if one.starts_with(&note)), "{:?}", found.notes);
    }
}

#[test]
fn nodes_on_which_no_rank_can_run_are_left_out_whatever_cards_they_have() {
    let label = |label: &str| format!("kubernetes.io/hostname: gpu-1\n      {label}");
    let host = "kubernetes.io/hostname: gpu-1";
    let lost = "type: Ready\n    - {type: NetworkUnavailable, status: 'True'}".to_owned();
    let gone = "name: gpu-1.example\n    deletionTimestamp: '2026-01-01T00:00:00Z'".to_owned();
    let cases = [
        (host, label("kubernetes.io/arch: arm64"), "it is arm64, and ranks run on amd64 only"),
        (host, label("kubernetes.io/os: windows"), "it runs windows, and ranks run on linux only"),
        ("name: gpu-1.example", gone, "it is being deleted"),
        ("type: Ready", lost, "its network is unavailable: see kubectl describe"),
    ];
    for (right, wrong, why) in cases {
        let found = read(&changed(right, &wrong));
        assert_eq!(short(&found).len(), 1, "{wrong}");
        assert_eq!(found.notes, [format!("node gpu-1.example: left out, {why}")]);
    }
}

#[test]
fn memory_of_another_unit_is_not_believed() {
    let labelled = |mib: &str, product: &str| {
        let text = changed("\"81559\"", &format!("{mib:?}"));
        let found = read(&text.replacen(H100, product, 1));
        (short(&found)[0].0 == "gpu-1.example").then(|| short(&found)[0].3).ok_or(found.notes)
    };
    // GiB and KiB of a card that the catalogue knows, and a card that differs a little.
    for (mib, expected) in [("80", 81_559), ("83516416", 81_559), ("65000", 65_000)] {
        assert_eq!(labelled(mib, H100), Ok(expected), "{mib}");
    }
    let found = read(&changed("\"81559\"", "\"80\""));
    let note = "node gpu-1.example: label nvidia.com/gpu.memory is 80 MiB, which no card has: \
                NVIDIA-H100-80GB-HBM3 has 79.6 GiB, which is taken";
    assert_eq!(found.notes, [note]);
    assert_eq!(labelled("24576", "NVIDIA-Z1"), Ok(24_576));
    for mib in ["24", "25165824"] {
        let notes = labelled(mib, "NVIDIA-Z1").expect_err("nobody knows better");
        let why = format!("label nvidia.com/gpu.memory is {mib} MiB, which no card has");
        assert_eq!(notes, [format!("node gpu-1.example: left out, {why}")]);
    }
}

#[test]
fn nodes_are_selected_by_labels_and_tolerations() {
    let taint = "taints: [{key: team, value: x, effect: NoSchedule}]";
    let found = read(&changed("podCIDR: 10.0.1.0/24", taint));
    let none = found.selected("lab", None, &[]);
    let note = "node gpu-1.example: tainted team=x:NoSchedule, which lab does not tolerate";
    assert_eq!(none, (["desk".to_owned()].into(), vec![note.to_owned()]));
    let tolerates: Toleration =
        serde_yaml::from_str("{key: team, operator: Exists}").expect("a toleration");
    let both = ["desk".to_owned(), "gpu-1.example".to_owned()];
    let all = found.selected("lab", None, std::slice::from_ref(&tolerates));
    assert_eq!(all, (both.into(), vec![]));
    let east: NodeSelector =
        serde_yaml::from_str("matchLabels: {topology.kubernetes.io/zone: west}").expect("one");
    assert_eq!(found.selected("lab", Some(&east), &[tolerates]), Default::default());
    let proposed = found.without_tainted();
    assert_eq!(short(&proposed).len(), 1);
    let note = "node gpu-1.example: left out, tainted team=x:NoSchedule, and proposed islands \
                tolerate nothing";
    assert_eq!(proposed.notes, [note]);
}

#[test]
fn parts_of_cards_are_found_by_their_full_names() {
    let named = |suffix: &str| changed("HBM3\n", &format!("HBM3{suffix}\n"));
    let four = |text: String| text.replacen("replicas: \"1\"", "replicas: \"4\"", 1);
    let sixteen = |text: String| text.replacen("gpu: \"8\"", "gpu: \"16\"", 1);
    let eighty = |text: String| {
        text.replacen("replicas: \"1\"", "replicas: \"10\"", 1).replacen(
            "gpu: \"8\"",
            "gpu: \"80\"",
            1,
        )
    };
    let cases = [
        ("-MIG-3g.40gb", named("-MIG-3g.40gb"), 8, 81_559),
        ("-SHARED", sixteen(four(named("-SHARED"))), 16, 20_389),
        ("-SHARED", eighty(named("-SHARED")), 80, 8_155),
        ("-MIG-3g.40gb-SHARED", four(named("-MIG-3g.40gb-SHARED")), 8, 20_389),
    ];
    for (suffix, text, count, mib) in cases {
        let found = read(&text);
        let product = format!("{H100}{suffix}");
        assert_eq!(short(&found)[0], ("gpu-1.example", count, product.as_str(), mib));
        let note = format!("it offers parts of cards, for islands whose devices name {product}");
        assert!(found.notes.contains(&format!("node gpu-1.example: {note}")), "{:?}", found.notes);
    }
}

#[test]
fn as_many_cards_as_a_node_may_have_are_read_and_one_more_is_not() {
    let offered = |cards: u64| {
        let text = LIST.replace("gpu: \"8\"", &format!("gpu: \"{cards}\""));
        read(&text.replace("gpu.count: \"8\"", &format!("gpu.count: \"{cards}\"")))
    };
    assert_eq!(short(&offered(64))[0].1, 64);
    for cards in [65, u64::MAX] {
        let found = offered(cards);
        let note = "node gpu-1.example: left out, it says that it has more than 64 cards";
        assert_eq!((short(&found).len(), &found.notes[..]), (1, &[note.to_owned()][..]));
    }
}

#[test]
fn a_note_is_said_once_for_all_its_nodes() {
    let node = |name: u32| format!("---\nkind: Node\nmetadata: {{name: cpu-{name}}}\n");
    let text = (1..=5).map(node).collect::<String>();
    let without = "left out, no label nvidia.com/gpu.product, so without NVIDIA GPUs";
    let found = read(&text);
    assert_eq!(found.notes, [format!("nodes cpu-1, cpu-2, cpu-3 and 2 more: {without}")]);
    assert_eq!(read(&node(1)).notes, [format!("node cpu-1: {without}")]);
}

#[test]
fn what_is_no_list_of_nodes_is_refused_with_what_to_change() {
    let node = "{kind: Node, metadata: {name: a}}";
    let cases = [
        (String::new(), "there are none: give what kubectl get nodes -o yaml prints"),
        ("kind: List".into(), "there are none: give what kubectl get nodes"),
        ("kind: Pod".into(), "document 1: Pod is not Node or List: leave it out"),
        (format!("{node}\n---\na: 1"), "document 2: something without kind is not Node or List"),
        (changed("kind: Node", "kind: Pod"), "document 1: items[0]"),
        (changed("kind: Node", "kind: Pod"), "Pod"),
        (changed("podCIDR: 10.0.1.0/24", "taints: none"), "items[0].spec.taints: "),
        ("a: [".into(), "document 1: "),
        ("{\"kind\": \"List\"".into(), "document 1: "),
        ("just text".into(), "document 1: "),
        (changed("name: desk", "uid: desk"), "number 2 has no metadata.name: give it one"),
        (changed("name: desk", "name: ''"), "number 2 has no metadata.name: give it one"),
        (changed("name: desk", "name: gpu-1.example"), "gpu-1.example is there twice: leave one"),
    ];
    for (text, sentence) in cases {
        let error = nodes(&text).expect_err(&text).to_string();
        assert!(error.starts_with("failed to read nodes"), "{error}");
        assert!(error.contains(sentence), "{sentence}\n got {error}");
    }
}

#[test]
fn as_much_as_may_be_read_is_read_and_more_is_refused() {
    let list = |count: usize| {
        let nodes = (0..count).map(|node| format!(r#"{{"metadata":{{"name":"n{node}"}}}}"#));
        format!(r#"{{"kind":"List","items":[{}]}}"#, nodes.collect::<Vec<_>>().join(","))
    };
    assert_eq!(read(&list(NODES_MAX)).nodes.len(), 0);
    assert_eq!(nodes(&list(NODES_MAX + 1)), Err(NodesError::TooMany(NODES_MAX + 1)));
    let long = " ".repeat(TEXT_MAX + 1);
    assert_eq!(nodes(&long), Err(NodesError::TooLong(TEXT_MAX + 1)));
    assert_eq!(nodes(&long[1..]), Err(NodesError::None));
}

/// The first node of LIST, in JSON.
fn first() -> Value {
    let list: Value = serde_yaml::from_str(LIST).expect("YAML");
    list["items"][0].clone()
}

fn usable(node: &Value, devices: Option<&Devices>) -> Result<Usable, String> {
    let object = serde_json::from_value(node.clone()).expect("a node");
    of_object(object, devices).map_err(|why| why.to_string())
}

/// The first node with a record in its annotation.
fn annotated(record: &str) -> Usable {
    let mut node = first();
    node["metadata"]["annotations"] = json!({ CAPABILITY: record });
    usable(&node, None).expect("a node that can be used")
}

/// A record of cards: index, TFLOP/s in f32 and bf16, and bytes.
fn record(product: &str, cards: &[(u32, f64, f64, u64)]) -> Value {
    let card = |(index, f32, bf16, bytes): &(u32, f64, f64, u64)| {
        let reached = json!({"f32Tflops": f32, "bf16Tflops": bf16, "bandwidthGbps": 2000.0});
        json!({
            "product": product, "index": index, "memoryBytes": bytes, "freeBytes": 1,
            "reached": reached,
        })
    };
    let curve = json!([{"bytes": 1, "seconds": 0.5}, {"bytes": 9, "seconds": 1.0}]);
    json!({
        "node": "probe-x7k2p", "devices": cards.iter().map(card).collect::<Vec<_>>(),
        "links": {"process": curve},
    })
}

#[test]
fn what_was_measured_counts_before_labels_and_for_all_cards_alike() {
    let cards = [(0, 50.0, 600.0, 85 << 30), (3, 40.0, 700.0, 84 << 30), (9, 1.0, 1.0, 1)];
    let found = annotated(&serde_json::to_string_pretty(&record(H100, &cards)).expect("JSON"));
    assert_eq!(found.notes, [""; 0]);
    let reached = Reached { f32_tflops: 40.0, bf16_tflops: Some(600.0), bandwidth_gbps: 2000.0 };
    let card = NodeCard { product: H100.into(), memory: 84 << 30, measured: Some(reached) };
    assert_eq!(found.node.cards, vec![card; 8]);
    assert_eq!(found.node.links.process.map(|curve| curve.seconds(1.0)), Some(0.5));
    let annotations = format!("metadata:\n    annotations: {{{CAPABILITY}: '{{}}'}}");
    let found = read(&changed("metadata:", &annotations));
    assert!(found.notes[0].starts_with("node gpu-1.example: annotation "), "{:?}", found.notes);
}

#[test]
fn a_record_that_says_nothing_of_the_cards_is_passed_over_with_a_note() {
    let of = |product: &str, bytes| record(product, &[(0, 1.0, 1.0, bytes)]).to_string();
    let mut cpu = record("cpu", &[(0, 1.0, 1.0, 1)]);
    cpu["devices"][0].as_object_mut().expect("an object").remove("index");
    let cases = [
        (String::new(), "EOF while parsing a value at line 1 column 0: give what heteroloco probe"),
        (of(H100, 1).replace("freeBytes", "idle"), "unknown field `idle`"),
        (of(H100, 1).replace("2000.0", "0.0"), "0 is no rate: measure again"),
        (of("NVIDIA-L4", 1), "it measured NVIDIA-L4 where the node has NVIDIA-H100-80GB-HBM3"),
        (of(H100, 0), "no card has 0 bytes"),
        (of(H100, u64::MAX), "no card has 18446744073709551615 bytes"),
        (cpu.to_string(), "it measured none of the node's cards: probe this node, where"),
        (of(&"\u{7}X".repeat(9999), 1), "it measured XX"),
    ];
    let plain = usable(&first(), None).expect("a node that can be used");
    for (record, why) in cases {
        let found = annotated(&record);
        assert_eq!((&found.node, &found.labels), (&plain.node, &plain.labels), "{record}");
        let note = format!("annotation {CAPABILITY} is passed over: {why}");
        assert!(matches!(&found.notes[..], [one] if one.starts_with(&note)), "{:?}", found.notes);
        assert!(found.notes[0].len() < 350, "{:?}", found.notes);
    }
}

/// A slice of the node's pool.
fn slice(generation: i64, of: i64, devices: &[(&str, &str, &str)]) -> Slice {
    let pool = json!({"name": "gpu-1", "generation": generation, "resourceSliceCount": of});
    pooled(&pool, devices)
}

/// A slice of a pool with devices: type, product and memory.
fn pooled(pool: &Value, devices: &[(&str, &str, &str)]) -> Slice {
    let device = |(kind, product, memory): &(&str, &str, &str)| {
        let mut device = json!({"name": "gpu-0", "attributes": {"type": {"string": kind}}});
        if !product.is_empty() {
            device["attributes"]["productName"] = json!({"string": product});
        }
        if !memory.is_empty() {
            device["capacity"] = json!({"memory": {"value": memory}});
        }
        device
    };
    let object = json!({"metadata": {"name": "gpu-1-x"}, "spec": {
        "driver": DRIVER, "nodeName": "gpu-1", "pool": pool,
        "devices": devices.iter().map(device).collect::<Vec<_>>(),
    }});
    Slice::of(serde_json::from_value(object).expect("a slice")).expect("one of the driver")
}

/// The driver's name for an H100.
const NAME: &str = "NVIDIA H100 80GB HBM3";

#[test]
fn what_slices_say_counts_before_labels() {
    let whole = ("gpu", NAME, "81559Mi");
    let h200 = ("gpu", "NVIDIA H200", "143771Mi");
    let (smaller, silent) = (("gpu", NAME, "81000Mi"), ("gpu", "", ""));
    let cut = ("mig", NAME, "40Gi");
    let product = "productName of its ResourceSlice is passed over: ";
    let memory = "memory of its ResourceSlice is passed over: ";
    let cases = [
        (vec![], 8, H100, 81_559, ""),
        (vec![("vfio", NAME, "1Gi")], 8, H100, 81_559, ""),
        (vec![h200; 8], 8, "NVIDIA-H200", 143_771, ""),
        (vec![h200; 3], 3, "NVIDIA-H200", 143_771, ""),
        (vec![h200; 9], 8, "NVIDIA-H200", 143_771, "only 8 of 9 cards are allocatable"),
        (vec![whole, smaller, cut, silent], 3, H100, 81_000, ""),
        (vec![silent; 8], 8, H100, 81_559, ""),
        (vec![("gpu", "NVIDIA (H200)", "")], 1, H100, 81_559, product),
        (vec![("gpu", NAME, "many")], 1, H100, 81_559, memory),
        (vec![("gpu", NAME, "0")], 1, H100, 81_559, memory),
    ];
    for (devices, count, product, mib, note) in cases {
        let said = Devices::of([&slice(1, 1, &devices)]).expect("all slices");
        let found = usable(&first(), Some(&said)).expect("a node that can be used");
        let card = NodeCard { product: product.into(), memory: mib << 20, measured: None };
        assert_eq!(found.node.cards, vec![card; count], "{devices:?}");
        let notes = found.notes.join("; ");
        assert!(notes.starts_with(note) && notes.is_empty() == note.is_empty(), "{notes}");
    }
}

#[test]
fn cards_of_slices_that_pods_cannot_ask_for_are_left_out() {
    let whole = ("gpu", NAME, "80Gi");
    let bare = |offered: Value| json!({"metadata": {}, "status": {"allocatable": offered}});
    let offered = || bare(json!({"nvidia.com/gpu": "2"}));
    let mut shared = first();
    shared["metadata"]["labels"]["nvidia.com/gpu.replicas"] = json!("4");
    let only = "its cards are offered by DRA only: NVIDIA's device plugin has to offer nvidia.com";
    let several = "its cards are NVIDIA-H100-80GB-HBM3 and NVIDIA-L4, which nvidia.com/gpu cannot";
    let unknown = "no label nvidia.com/gpu.product: run GPU feature discovery there";
    let cases = [
        (vec![whole], bare(json!({})), only),
        (vec![whole], bare(json!({"nvidia.com/gpu": "0"})), only),
        (vec![whole, ("gpu", "NVIDIA L4", "23034Mi")], offered(), several),
        (vec![("mig", NAME, "40Gi")], offered(), "MIG cuts its cards, and no label nvidia.com/"),
        (vec![whole; 8], shared, "its cards are shared as another resource than nvidia.com/gpu"),
        (vec![("gpu", "", "80Gi")], offered(), unknown),
        (vec![whole; 65], bare(json!({"nvidia.com/gpu": "65"})), "it says that it has more than"),
    ];
    for (devices, node, why) in cases {
        let said = Devices::of([&slice(1, 1, &devices)]).expect("all slices");
        let refused = usable(&node, Some(&said)).expect_err(why);
        assert!(refused.starts_with(&format!("left out, {why}")), "{refused}");
    }
    let said = Devices::of([&slice(1, 1, &[whole, whole])]).expect("all slices");
    let found = usable(&offered(), Some(&said)).expect("cards without a label");
    let card = NodeCard { product: H100.into(), memory: 80 << 30, measured: None };
    assert_eq!(found.node.cards, [card.clone(), card]);
}

#[test]
fn of_a_pool_only_the_newest_generation_counts_and_only_as_a_whole() {
    let (old, new) = (("gpu", NAME, "80Gi"), ("gpu", NAME, "70Gi"));
    let [before, first, second] =
        [slice(1, 1, &[old; 8]), slice(2, 2, &[new]), slice(2, 2, &[new; 2])];
    let memory = |slices: &[&Slice]| {
        let said = Devices::of(slices.iter().copied());
        said.map(|said| (said.whole, said.memory.map(|bytes| bytes >> 30)))
    };
    assert_eq!(memory(&[]), Some((0, None)));
    assert_eq!(memory(&[&before]), Some((8, Some(80))));
    assert_eq!(memory(&[&before, &first]), None);
    assert_eq!(memory(&[&second, &before, &first]), Some((3, Some(70))));
    let other = json!({"name": "other", "generation": 1, "resourceSliceCount": 1});
    let other = pooled(&other, &[new]);
    assert_eq!(memory(&[&other, &before]), Some((9, Some(70))));
    let foreign = |field: &str, value: Value| {
        let pool = json!({"name": "a", "generation": 1, "resourceSliceCount": 1});
        let mut spec = json!({"driver": DRIVER, "nodeName": "a", "pool": pool});
        spec[field] = value;
        Slice::of(serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a slice"))
    };
    assert!(foreign("devices", json!([])).is_some());
    assert_eq!(foreign("driver", json!("dra.example.com")), None);
    assert_eq!(foreign("nodeName", Value::Null), None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        from in 0..LIST.len(), length in 0_usize..60, put in "[ -~\n]{0,20}",
    ) {
        let to = (from + length).min(LIST.len());
        let text = format!("{}{put}{}", &LIST[..from], &LIST[to..]);
        match nodes(&text) {
            Ok(found) => prop_assert!(found.nodes.iter().all(|(node, _)| !node.cards.is_empty())),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
