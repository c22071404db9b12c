//! Laws of selecting nodes, over all labels.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

type Labels = BTreeMap<String, String>;

fn labels() -> impl Strategy<Value = Labels> {
    btree_map("[abc]", "[xyz]?", 0..4)
}

fn requirements() -> impl Strategy<Value = NodeRequirement> {
    use NodeOperator::{DoesNotExist, Exists, In, NotIn};
    let operator = proptest::sample::select(vec![In, NotIn, Exists, DoesNotExist]);
    ("[abc]", operator, vec("[xyz]?", 0..3)).prop_map(|(key, operator, values)| NodeRequirement {
        key,
        operator,
        values,
    })
}

fn of(match_labels: Labels, match_expressions: Vec<NodeRequirement>) -> NodeSelector {
    NodeSelector { match_labels, match_expressions }
}

proptest! {
    #[test]
    fn more_that_is_asked_for_selects_no_more(
        asked in labels(), requirements in vec(requirements(), 0..3), more in requirements(),
        node in labels(),
    ) {
        let fewer = of(asked.clone(), requirements.clone());
        let mut all = requirements.clone();
        all.push(more.clone());
        let alone = of(Labels::new(), vec![more]).selects(&node);
        prop_assert_eq!(of(asked, all).selects(&node), fewer.selects(&node) && alone);
    }

    #[test]
    fn an_operator_and_its_opposite_divide_all_nodes(
        key in "[abc]", values in vec("[xyz]?", 1..3), node in labels(),
    ) {
        let holds = |operator, values: &[String]| {
            let (key, values) = (key.clone(), values.to_vec());
            of(Labels::new(), vec![NodeRequirement { key, operator, values }]).selects(&node)
        };
        prop_assert_ne!(holds(NodeOperator::In, &values), holds(NodeOperator::NotIn, &values));
        let (there, away) = (NodeOperator::Exists, NodeOperator::DoesNotExist);
        prop_assert_ne!(holds(there, &[]), holds(away, &[]));
        prop_assert!(!holds(NodeOperator::In, &values) || holds(there, &[]));
        prop_assert!(!holds(away, &[]) || holds(NodeOperator::NotIn, &values));
    }

    #[test]
    fn a_label_that_is_asked_for_is_one_value_in_a_list_of_one(
        key in "[abc]", value in "[xyz]?", node in labels(),
    ) {
        let label = of(Labels::from([(key.clone(), value.clone())]), Vec::new());
        let operator = NodeOperator::In;
        let listed = NodeRequirement { key, operator, values: vec![value] };
        let listed = of(Labels::new(), vec![listed]);
        prop_assert_eq!(label.selects(&node), listed.selects(&node));
    }

    #[test]
    fn whoever_asks_for_nothing_takes_every_node(node in labels()) {
        prop_assert!(NodeSelector::default().selects(&node));
        prop_assert!(of(node.clone(), Vec::new()).selects(&node));
    }

    #[test]
    fn what_is_written_of_a_selector_is_read_back(
        asked in labels(), requirements in vec(requirements(), 0..3),
    ) {
        let selector = of(asked, requirements);
        let text = serde_yaml::to_string(&selector).expect("YAML");
        prop_assert_eq!(serde_yaml::from_str::<NodeSelector>(&text).expect(&text), selector);
    }
}
