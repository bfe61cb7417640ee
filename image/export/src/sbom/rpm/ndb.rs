//! rpm's `ndb` form: pages of slots, each of which says in which blocks a blob is. Numbers are little-endian.

const MAGIC: &[u8] = b"RpmP";
const SLOT: &[u8] = b"Slot";
const BLOB: &[u8] = b"BlbS";
const PAGE: usize = 4096;
/// A slot is as long as a block, and the database's own header as long as two.
const BLOCK: usize = 16;

/// The blobs of a database, each a header; `None` if it is none.
pub(super) fn headers(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let version = number(bytes, 4)?;
    if !bytes.starts_with(MAGIC) || version != 0 {
        return None;
    }
    let pages = number(bytes, 12)? as usize;
    let slots = bytes.get(2 * BLOCK..pages.checked_mul(PAGE)?)?;
    let slots = slots.as_chunks::<BLOCK>().0.iter();
    slots
        .filter(|slot| number(&slot[..], 8) != Some(0))
        .map(|slot| slot.starts_with(SLOT).then(|| blob(bytes, slot))?)
        .collect()
}

/// The blob to which a slot leads.
fn blob<'a>(bytes: &'a [u8], slot: &[u8; BLOCK]) -> Option<&'a [u8]> {
    let start = (number(slot, 8)? as usize).checked_mul(BLOCK)?;
    let head = bytes.get(start..start.checked_add(BLOCK)?)?;
    let is_its = head.starts_with(BLOB) && number(head, 4) == number(slot, 4);
    let length = number(head, 12)? as usize;
    let start = start + BLOCK;
    let blob = bytes.get(start..start.checked_add(length)?)?;
    is_its.then_some(blob)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
