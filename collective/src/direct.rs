//! Control data, straight from each rank to each other: one hop, made for few bytes.
//!
//! ```text
//!  0 <-> 1     all at once; cost per rank: w-1 messages each way, one trip's latency
//!  0 <-> 2
//!  1 <-> 2
//! ```

use bytes::{Bytes, BytesMut};

use crate::CommError;
use crate::links::{Call, Links, Piece, Receiving, Sending};
use crate::wire::{CHUNK_BYTES, CONTROL_BYTES_MAX};

/// Every rank's bytes, by rank.
pub(crate) async fn all_gather_bytes(
    links: &mut Links,
    call: Call,
    mine: &[u8],
) -> Result<Vec<Vec<u8>>, CommError> {
    check_size(call, mine)?;
    let mut all = vec![Vec::new(); links.world_size()];
    all[links.rank as usize] = mine.to_vec();
    let mine = Bytes::copy_from_slice(mine);
    let (froms, tos) = links.all(call);
    let send = async {
        for mut to in tos {
            send_bytes(&mut to, &mine).await?;
        }
        Ok(())
    };
    let receive = async {
        for mut from in froms {
            all[from.peer() as usize] = recv_bytes(&mut from).await?;
        }
        Ok(())
    };
    tokio::try_join!(receive, send)?;
    Ok(all)
}

/// Brings the bytes of `root` to all ranks.
pub(crate) async fn broadcast_bytes(
    links: &mut Links,
    call: Call,
    data: &mut Vec<u8>,
    root: u32,
) -> Result<(), CommError> {
    if root as usize >= links.world_size() {
        let detail = format!("there is no rank {root} in a world of {}", links.world_size());
        return Err(CommError::Argument { operation: call.operation, detail });
    }
    if links.rank != root {
        *data = recv_bytes(&mut links.from(root, call)?).await?;
        return Ok(());
    }
    check_size(call, data)?;
    let bytes = Bytes::copy_from_slice(data);
    for peer in (0..links.world_size() as u32).filter(|peer| *peer != root) {
        send_bytes(&mut links.to(peer, call)?, &bytes).await?;
    }
    Ok(())
}

fn check_size(call: Call, data: &[u8]) -> Result<(), CommError> {
    if data.len() <= CONTROL_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("{} bytes are more than the {CONTROL_BYTES_MAX} allowed", data.len());
    Err(CommError::Argument { operation: call.operation, detail })
}

async fn send_bytes(to: &mut Sending<'_>, data: &Bytes) -> Result<(), CommError> {
    let total = data.len() as u64;
    let mut offset = 0;
    loop {
        let end = data.len().min(offset + CHUNK_BYTES);
        let payload = data.slice(offset..end);
        to.send(total, Piece { block: 0, offset: offset as u64, payload }).await?;
        if end == data.len() {
            return Ok(());
        }
        offset = end;
    }
}

async fn recv_bytes(from: &mut Receiving<'_>) -> Result<Vec<u8>, CommError> {
    let mut data = BytesMut::new();
    loop {
        let (total, arrived) = from.recv().await?;
        if total > CONTROL_BYTES_MAX as u64 {
            return Err(from.protocol(format!("{total} bytes are more than allowed")));
        }
        let end = arrived.offset.saturating_add(arrived.payload.len() as u64);
        let empty = arrived.payload.is_empty() && total > 0;
        if arrived.offset != data.len() as u64 || end > total || empty {
            let found = (arrived.offset, arrived.payload.len());
            return Err(from.protocol(format!("(offset, bytes) = {found:?} do not continue")));
        }
        data.extend_from_slice(&arrived.payload);
        if end == total {
            return Ok(data.into());
        }
    }
}
