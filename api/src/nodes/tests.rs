//! Tests of nodes as kubectl prints them, right and wrong.

use proptest::prelude::*;

use super::*;
use crate::selector::NodeSelector;

/// What kubectl prints of two nodes, shortened; tests change a line.
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
    let shared = "shared cards are not planned with yet: end time slicing or MPS";
    let slices = "slices of MIG are not planned with yet: turn MIG off to use the cards";
    let cases = [
        (product, suffix("-SHARED"), shared),
        ("replicas: \"1\"", "replicas: \"4\"".into(), shared),
        (product, suffix("-MIG-3g.40gb"), slices),
        (product, suffix("-MIG-3g.40gb-SHARED"), slices),
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
