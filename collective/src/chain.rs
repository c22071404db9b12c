//! Broadcast along a chain, and the point-to-point transfers it is made of.
//!
//! ```text
//!  root -> root+1 -> root+2 -> ... -> root-1      each chunk is passed on as it comes
//! ```
//!
//! Cost with n values in a world of w: every rank but the last sends n values, every rank but the
//! root receives n, and the last has all after n values and w-2 chunks.

use crate::CommError;
use crate::links::{Call, Links, Piece, Receiving, Sending};
use crate::numeric;
use crate::pool::Pool;
use crate::wire::CHUNK_BYTES;

const CHUNK_VALUES: usize = CHUNK_BYTES / size_of::<f32>();

/// Brings the values of `root` to all ranks.
pub(crate) async fn broadcast(
    links: &mut Links,
    call: Call,
    values: &mut [f32],
    root: u32,
) -> Result<(), CommError> {
    let (rank, world) = (links.rank, links.world_size() as u32);
    if root >= world {
        let detail = format!("there is no rank {root} in a world of {world}");
        return Err(CommError::Argument { operation: call.operation, detail });
    }
    if world == 1 {
        return Ok(());
    }
    let (previous, next) = ((rank + world - 1) % world, (rank + 1) % world);
    if rank == root {
        return send(links, call, values, next).await;
    }
    if next == root {
        return recv(links, call, values, previous).await;
    }
    let (mut from, mut to) = links.between(previous, next, call)?;
    take_all(&mut from, Some(&mut to), values).await
}

/// Sends `values` to one rank, which receives as many.
pub(crate) async fn send(
    links: &mut Links,
    call: Call,
    values: &[f32],
    to: u32,
) -> Result<(), CommError> {
    let pool = links.pool.clone();
    send_all(&mut links.to(to, call)?, &pool, values).await
}

/// Receives as many values from one rank as it sends.
pub(crate) async fn recv(
    links: &mut Links,
    call: Call,
    values: &mut [f32],
    from: u32,
) -> Result<(), CommError> {
    take_all(&mut links.from(from, call)?, None, values).await
}

/// Sends to one rank while receiving from one, so that no two ranks wait for each other to receive.
pub(crate) async fn exchange(
    links: &mut Links,
    call: Call,
    (to, values): (u32, &[f32]),
    (from, into): (u32, &mut [f32]),
) -> Result<(), CommError> {
    if to == links.rank && from == links.rank {
        if values.len() != into.len() {
            let detail = format!("{} values do not fill {}", values.len(), into.len());
            return Err(CommError::Argument { operation: call.operation, detail });
        }
        into.copy_from_slice(values);
        return Ok(());
    }
    let pool = links.pool.clone();
    let (mut from, mut to) = links.between(from, to, call)?;
    let receive = take_all(&mut from, None, into);
    tokio::try_join!(receive, send_all(&mut to, &pool, values)).map(drop)
}

async fn send_all(to: &mut Sending<'_>, pool: &Pool, values: &[f32]) -> Result<(), CommError> {
    let total = (values.len() * 4) as u64;
    for (index, chunk) in values.chunks(CHUNK_VALUES).enumerate() {
        to.send(total, piece(pool, index, chunk)).await?;
    }
    Ok(())
}

async fn take_all(
    from: &mut Receiving<'_>,
    mut to: Option<&mut Sending<'_>>,
    values: &mut [f32],
) -> Result<(), CommError> {
    let total = (values.len() * 4) as u64;
    for (index, chunk) in values.chunks_mut(CHUNK_VALUES).enumerate() {
        let (_, arrived) = from.recv().await?;
        let found = (arrived.offset, arrived.payload.len());
        let expected = ((index * CHUNK_BYTES) as u64, chunk.len() * 4);
        if found != expected {
            let detail = format!("(offset, bytes) = {found:?} instead of {expected:?}");
            return Err(from.protocol(detail));
        }
        numeric::load(chunk, &arrived.payload);
        if let Some(to) = &mut to {
            to.send(total, arrived).await?;
        }
    }
    Ok(())
}

fn piece(pool: &Pool, index: usize, chunk: &[f32]) -> Piece {
    let payload = pool.payload(chunk.len() * 4, |out| numeric::store(out, chunk));
    Piece { block: 0, offset: (index * CHUNK_BYTES) as u64, payload }
}
