//! The test vectors beside `docs/wire-format.md`, read by the crate and by a second implementation
//! that was written from that page alone; and both beside each other on other values.
//! `vectors/decode.py` is a third decoder of them.
#![allow(clippy::unwrap_used)] // helpers of tests, outside `#[test]` functions

mod page;

use std::fs;
use std::path::Path;

use page::{Input, Model, Said, Step, Who};
use proptest::prelude::*;
use sparseloco::codec::{WireError, compress_piece, restore_piece, verify_piece};
use sparseloco::outer::apply_piece;
use sparseloco::{
    CodecParams, FrameId, Layout, OuterParams, PieceAt, PieceInput, PieceState, Rule, TensorShape,
    ValueBits, Weighted,
};

fn read(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    fs::read(folder.join(file)).unwrap()
}

fn lines(file: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(read(file)).unwrap();
    text.lines().map(|line| line.split(' ').map(String::from).collect()).collect()
}

fn floats(file: &str) -> Vec<f32> {
    read(file).as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn who(island: &str) -> Who {
    Who { run: "vectors".into(), island: island.into(), round: 7 }
}

/// A model from `k`, value bits and shapes such as `200x70`.
fn model(k: &str, bits: &str, shapes: &[String]) -> Model {
    let shape = |text: &String| text.split('x').map(|dim| dim.parse().unwrap()).collect();
    let tensors = shapes.iter().enumerate().map(|(nth, text)| (format!("t{nth}"), shape(text)));
    Model { tensors: tensors.collect(), k: k.parse().unwrap(), bits: bits.parse().unwrap() }
}

/// The same for the crate.
struct Crate {
    layout: Layout,
    params: CodecParams,
}

impl Crate {
    fn new(model: &Model, decay: f32, retention: f32) -> Crate {
        let tensors: Vec<TensorShape> = model
            .tensors
            .iter()
            .map(|(name, shape)| (name.clone(), shape.iter().map(|dim| *dim as u64).collect()))
            .map(|(name, shape)| TensorShape { name, shape })
            .collect();
        let bits = if model.bits == 1 { ValueBits::One } else { ValueBits::Two };
        let params = CodecParams::new(model.k as u32, bits, decay, retention).unwrap();
        Crate { layout: Layout::new(&tensors).unwrap(), params }
    }

    fn at(&self, piece: usize) -> PieceAt<'_> {
        PieceAt { layout: &self.layout, params: &self.params, piece: piece as u32 }
    }

    fn id(&self, who: &Who) -> FrameId {
        FrameId::new(&who.run, &who.island, who.round, self.layout.hash(&self.params))
    }

    /// The frame, and the residual that is left.
    fn encode(&self, piece: usize, who: &Who, input: &Input<'_>) -> (Vec<u8>, Vec<f32>) {
        let (mut residual, mut frame) = (input.residual.to_vec(), Vec::new());
        let pair = PieceInput { anchor: input.anchor, theta: input.theta };
        compress_piece(self.at(piece), &self.id(who), pair, &mut residual, &mut frame).unwrap();
        (frame, residual)
    }

    /// θ and the residual after a set of weights, islands and frames.
    fn apply(
        &self,
        piece: usize,
        step: &Step,
        set: &[(u64, Who, Vec<u8>)],
        (mut theta, mut residual): (Vec<f32>, Vec<f32>),
    ) -> (Vec<f32>, Vec<f32>) {
        let weighted =
            |(weight, who, bytes): &'_ (u64, Who, Vec<u8>)| (*weight, self.id(who), bytes.clone());
        let held: Vec<(u64, FrameId, Vec<u8>)> = set.iter().map(weighted).collect();
        let set: Vec<Weighted<'_>> = held
            .iter()
            .map(|(weight, id, bytes)| Weighted { weight: *weight, id: *id, bytes })
            .collect();
        let rule = if step.counted { Rule::Counted } else { Rule::Paper };
        let outer = OuterParams { rule, alpha: step.alpha };
        let state = PieceState { anchor: &mut theta, residual: &mut residual };
        apply_piece(self.at(piece), &outer, &set, step.own, state).unwrap();
        (theta, residual)
    }
}

/// An input of which a is `values`.
fn plain<'a>(values: &'a [f32], zeros: &'a [f32]) -> Input<'a> {
    Input { residual: zeros, anchor: values, theta: zeros, decay: 0.95, retention: 0.0 }
}

#[test]
fn every_vector_encodes_and_decodes_as_it_did() {
    let index = lines("index.txt");
    assert_eq!(index.len(), 16);
    for line in index {
        let [name, island, k, value_bits, piece, shapes @ ..] = &line[..] else {
            panic!("{line:?}")
        };
        let (model, who, piece) =
            (model(k, value_bits, shapes), who(island), piece.parse().unwrap());
        let (input, frame) = (floats(&format!("{name}.input")), read(&format!("{name}.frame")));
        let message = floats(&format!("{name}.message"));
        let zeros = vec![0.0; input.len()];

        let codec = Crate::new(&model, 0.95, 0.0);
        verify_piece(codec.at(piece), &codec.id(&who), &frame).unwrap();
        let mut restored = zeros.clone();
        restore_piece(codec.at(piece), &codec.id(&who), &frame, &mut restored).unwrap();
        assert_eq!(restored, message, "{name} decodes");
        let (encoded, left) = codec.encode(piece, &who, &plain(&input, &zeros));
        assert!(encoded == frame, "{name} encodes to other bytes");

        let said = page::decode(&model, piece, &who, &frame).unwrap();
        let decoded = page::message(&model, piece, &said);
        assert_eq!(bits(&decoded), bits(&message), "{name} decodes by the page");
        let (again, page_left) = page::encode(&model, piece, &plain(&input, &zeros));
        assert_eq!(again, said, "{name} is chosen by the page");
        assert!(page::frame(&model, piece, &who, &again) == frame, "{name} is written by the page");
        assert_eq!(bits(&left), bits(&page_left), "what {name} leaves");
    }
}

#[test]
fn every_step_of_an_encoder_gives_the_frame_and_the_residual_that_it_gave() {
    for line in lines("steps.txt") {
        let [name, island, k, value_bits, piece, decay, retention, shapes @ ..] = &line[..] else {
            panic!("{line:?}")
        };
        let (model, who, piece) =
            (model(k, value_bits, shapes), who(island), piece.parse().unwrap());
        let [residual, anchor, theta, left] =
            ["residual", "anchor", "theta", "left"].map(|kind| floats(&format!("{name}.{kind}")));
        let (decay, retention) = (decay.parse().unwrap(), retention.parse().unwrap());
        let input = Input { residual: &residual, anchor: &anchor, theta: &theta, decay, retention };
        let expected = (read(&format!("{name}.frame")), bits(&left));

        let codec = Crate::new(&model, decay, retention);
        let (frame, left) = codec.encode(piece, &who, &input);
        assert!((frame, bits(&left)) == expected, "{name} by the crate");
        let (said, left) = page::encode(&model, piece, &input);
        let frame = page::frame(&model, piece, &who, &said);
        assert!((frame, bits(&left)) == expected, "{name} by the page");
    }
}

#[test]
fn every_set_is_applied_as_it_was() {
    let index = lines("index.txt");
    for line in lines("sets.txt") {
        let [name, rule, alpha, own, contributions @ ..] = &line[..] else { panic!("{line:?}") };
        let step = Step {
            counted: rule == "counted",
            alpha: alpha.parse().unwrap(),
            own: own.parse().ok(),
        };
        let (mut set, mut models) = (Vec::new(), Vec::new());
        for (weight, vector) in contributions.iter().map(|text| text.split_once(':').unwrap()) {
            let line = index.iter().find(|line| line[0] == vector).unwrap();
            models.push(model(&line[2], &line[3], &line[5..]));
            set.push((weight.parse().unwrap(), who(&line[1]), read(&format!("{vector}.frame"))));
        }
        let state = ["anchor", "residual"].map(|kind| floats(&format!("{name}.{kind}")));
        let [after, left] = ["after", "left"].map(|kind| floats(&format!("{name}.{kind}")));
        let expected = (bits(&after), bits(&left));
        for (theta, residual) in both(&models[0], 0, &step, &set, state.into()) {
            assert_eq!((bits(&theta), bits(&residual)), expected, "{name}");
        }
    }
}

type State = (Vec<f32>, Vec<f32>);

/// A set as the crate and the page apply it.
fn both(
    model: &Model,
    piece: usize,
    step: &Step,
    set: &[(u64, Who, Vec<u8>)],
    state: State,
) -> [State; 2] {
    let said: Vec<(u64, Vec<Said>)> = set
        .iter()
        .map(|(weight, who, frame)| (*weight, page::decode(model, piece, who, frame).unwrap()))
        .collect();
    let by_crate = Crate::new(model, 0.95, 0.0).apply(piece, step, set, state.clone());
    [by_crate, page::apply(model, piece, step, &said, state)]
}

#[test]
fn the_hashes_are_those_of_the_page() {
    let index = lines("index.txt");
    let line = index.iter().find(|line| line[0] == "pieces-0").unwrap();
    let model = model(&line[2], &line[3], &line[5..]);
    assert_eq!(model.pieces(), 2);
    let codec = Crate::new(&model, 0.95, 0.0);
    let [contribution, theta] =
        ["frame", "input"].map(|kind| [0, 1].map(|piece| read(&format!("pieces-{piece}.{kind}"))));
    let hashes: Vec<(String, String)> =
        lines("digests.txt").iter().map(|line| (line[0].clone(), line[1].clone())).collect();
    let expected = [
        ("layout", blake3::Hash::from(model.layout_hash())),
        ("order", codec.layout.order_hash().into()),
        ("contribution", page::root(&contribution)),
        ("theta", page::root(&theta)),
    ];
    assert_eq!(hashes, expected.map(|(name, hash)| (name.to_string(), hash.to_string())));
    assert_eq!(codec.layout.hash(&codec.params), model.layout_hash());
}

#[test]
fn a_frame_is_refused_under_another_islands_name() {
    let (model, frame) = (model("256", "2", &["70x3".into(), "130".into()]), read("mix-a.frame"));
    let codec = Crate::new(&model, 0.95, 0.0);
    for island in ["b", "A", "a ", ""] {
        let refusal = verify_piece(codec.at(0), &codec.id(&who(island)), &frame);
        assert_eq!(refusal, Err(WireError::Island));
        assert!(page::decode(&model, 0, &who(island), &frame).is_err());
    }
}

/// Numbers of both signs: of all sizes, a few often, and zeros.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -1.0f32..1.0,
        2 => prop::sample::select(vec![0.0, -0.0, 0.5, -0.5, 1.0, 1.003_906_3, 1.011_718_8]),
        1 => (1u32..(127 + 95) << 23).prop_map(f32::from_bits),
        1 => (1u32..(127 + 95) << 23).prop_map(|bits| -f32::from_bits(bits)),
    ]
}

fn models() -> impl Strategy<Value = Model> {
    let len = prop_oneof![1usize..200, 1usize..5000, prop::sample::select(vec![4095, 4096, 4097])];
    let shape = prop_oneof![
        len.prop_map(|len| vec![len]),
        (1usize..140, 1usize..70).prop_map(|(rows, columns)| vec![rows, columns]),
    ];
    let k = prop_oneof![Just(64usize), 1usize..=4096, 1usize..300];
    (prop::collection::vec(shape, 1..4), k, 1usize..=2).prop_map(|(shapes, k, bits)| Model {
        tensors: shapes
            .into_iter()
            .enumerate()
            .map(|(n, shape)| (format!("t{n}"), shape))
            .collect(),
        k,
        bits,
    })
}

/// `count` numbers out of few that were drawn.
fn spread(numbers: &[f32], count: usize, turn: usize) -> Vec<f32> {
    let stride = numbers.len() / 2 + 1 + turn;
    (0..count).map(|nth| numbers[(nth * stride + nth / numbers.len()) % numbers.len()]).collect()
}

proptest! {
    #[test]
    fn crate_and_page_make_the_same_of_everything(
        model in models(),
        numbers in prop::collection::vec(number(), 1..3000),
        factors in (0.0f32..=1.0, 0.0f32..=1.0),
        weights in prop::collection::vec(prop_oneof![1u64..100, any::<u64>()], 1..6),
        own in prop::option::of(0usize..6),
        (counted, alpha) in (any::<bool>(), 0.1f32..2.0),
        piece in any::<prop::sample::Index>(),
    ) {
        let piece = piece.index(model.pieces());
        let range = model.range(piece);
        let codec = Crate::new(&model, factors.0, factors.1);
        prop_assert_eq!(&codec.layout.piece(piece as u32).values, &range);
        let values = |turn| spread(&numbers, range.len(), turn);
        let set: Vec<(u64, Who, Vec<u8>)> = (0..).zip(&weights).map(|(nth, weight)| {
            let who = Who { run: "r".into(), island: format!("island-{nth}"), round: nth as u64 };
            let [residual, anchor, theta] = [0, 1, 2].map(|turn| values(3 * nth + turn));
            let (decay, retention) = factors;
            let input =
                Input { residual: &residual, anchor: &anchor, theta: &theta, decay, retention };
            let (frame, left) = codec.encode(piece, &who, &input);
            let (said, page_left) = page::encode(&model, piece, &input);
            assert!(page::frame(&model, piece, &who, &said) == frame);
            assert_eq!(page::decode(&model, piece, &who, &frame).unwrap(), said);
            assert_eq!(bits(&left), bits(&page_left));
            (weight.max(&1).to_owned(), who, frame)
        }).collect();
        let step = Step { counted, alpha, own: own.filter(|own| *own < set.len()) };
        let [by_crate, by_page] = both(&model, piece, &step, &set, (values(50), values(51)));
        prop_assert_eq!(bits(&by_crate.0), bits(&by_page.0));
        // As numbers: the sign of a zero in a residual is not specified.
        prop_assert_eq!(by_crate.1, by_page.1);
    }

    #[test]
    fn the_canonical_order_is_the_pages(model in models()) {
        let layout = Crate::new(&model, 0.95, 0.0).layout;
        let flat: Vec<f32> = (0..layout.values()).map(|value| value as f32).collect();
        let mut canonical = vec![0.0; flat.len()];
        layout.gather(0..layout.pieces(), &flat, &mut canonical);
        prop_assert_eq!(canonical, model.canonical(&flat));
    }

    #[test]
    fn crate_and_page_refuse_the_same_bytes(
        model in models(),
        numbers in prop::collection::vec(number(), 1..100),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u32..8, 0usize..12), 0..3),
        cut in prop_oneof![4 => Just(0usize), 1 => 1usize..5],
    ) {
        let (codec, who) = (Crate::new(&model, 0.95, 0.0), who("a"));
        let len = model.range(0).len();
        let (values, zeros) = (spread(&numbers, len, 1), vec![0.0; len]);
        let (mut frame, _) = codec.encode(0, &who, &plain(&values, &zeros));
        frame.truncate(frame.len() - cut.min(frame.len() - 56));
        for (index, bit, end) in changes {
            // Mostly anywhere, now and then among the last bytes, where planes end.
            let at = if end < 4 { frame.len() - 1 - end } else { index.index(frame.len()) };
            frame[at] ^= 1 << bit;
        }
        let mut sealed = frame.clone();
        let all = [&frame[..12], &frame[16..]].concat();
        sealed[12..16].copy_from_slice(&crc32c::crc32c(&all).to_le_bytes());
        for bytes in [frame, sealed] {
            let by_crate = verify_piece(codec.at(0), &codec.id(&who), &bytes);
            let by_page = page::decode(&model, 0, &who, &bytes);
            prop_assert_eq!(by_crate.is_ok(), by_page.is_ok(), "{:?} {:?}", by_crate, by_page);
        }
    }
}
