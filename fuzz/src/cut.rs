//! Where inputs are cut, and which part of an input chooses how it is read.

use corelane::api::Task;

/// Places to cut `len` bytes: all of them while they are few, else about 128, spread evenly.
pub fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by((len / 128).max(1)).chain([len.saturating_sub(1), len])
}

/// `data` whole, in two parts at each of [`places`], and byte by byte (where that is affordable).
pub fn all(data: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let halves = places(data.len()).map(|at| vec![&data[..at], &data[at..]]);
    let bytes = data.chunks(if data.len() <= 4096 { 1 } else { 61 }).collect();
    std::iter::once(vec![data]).chain(halves).chain([bytes])
}

/// Takes the first byte off: it chooses, so that one corpus covers all choices.
pub fn choice(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (usize::from(first), rest))
}

/// Tasks, in an order that the corpus relies on.
pub const TASKS: [Task; 12] = [
    Task::Chat,
    Task::Completions,
    Task::Embeddings,
    Task::Responses,
    Task::Messages,
    Task::CountTokens,
    Task::NativeChat,
    Task::NativeGenerate,
    Task::NativeEmbed,
    Task::NativeEmbeddings,
    Task::NativeShow,
    Task::Other,
];

/// The task that a choosing byte means: letters `a` to `l` name them in order.
pub fn task(choice: usize) -> Task {
    TASKS[(choice + TASKS.len() * 16 - 97) % TASKS.len()]
}
