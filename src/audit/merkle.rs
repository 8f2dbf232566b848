//! Merkle trees as RFC 6962 has them, kept as their peaks: the roots of the perfect trees that the leaves make up.
use crate::platform::keys::sha256;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

const HASH_LEN: usize = size_of::<Hash>();
const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// The hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[LEAF, entry])
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[NODE, left, right])
}

/// A tree that only grows, in as many hashes as its size has ones in binary.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peaks {
    size: u64,
    hashes: Vec<Hash>,
}

impl Peaks {
    /// Reads what `to_bytes` wrote. `None`: a tree of this size has other peaks.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (hashes, []) = bytes.as_chunks::<HASH_LEN>() else { return None };
        let fits = u32::try_from(hashes.len()).is_ok_and(|count| count == size.count_ones());
        fits.then(|| Self { size, hashes: hashes.to_vec() })
    }

    /// The peaks from left to right, one after another.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right: it joins every perfect tree of its own size that stands there already.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The Merkle tree hash; that of no leaves is the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.hashes.iter().rev();
        let Some(last) = peaks.next() else { return sha256(&[]) };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// The inputs and roots of the reference tests of Certificate Transparency.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hex(hash: Hash) -> String {
        let mut text = String::new();
        for byte in hash {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    }

    /// RFC 6962, 2.1, word for word.
    fn naive(entries: &[Vec<u8>]) -> Hash {
        match entries {
            [] => sha256(&[]),
            [entry] => leaf_hash(entry),
            _ => {
                let split = 1 << (entries.len() - 1).ilog2();
                node_hash(&naive(&entries[..split]), &naive(&entries[split..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let mut peaks = Peaks::default();
        assert_eq!(hex(peaks.root()), ROOTS[0]);
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            peaks.append(leaf_hash(leaf));
            assert_eq!(hex(peaks.root()), *root, "{} leaves", peaks.size());
        }
        assert_eq!(
            hex(leaf_hash(b"L123456")),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
    }

    #[test]
    fn every_size_has_the_root_of_the_definition_and_its_peaks_read_back() {
        let entries: Vec<Vec<u8>> = (0..130_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut peaks = Peaks::default();
        for size in 0..=entries.len() {
            assert_eq!(peaks.root(), naive(&entries[..size]), "{size} leaves");
            let bytes = peaks.to_bytes();
            assert_eq!(Peaks::from_bytes(peaks.size(), &bytes).as_ref(), Some(&peaks));
            if let Some(entry) = entries.get(size) {
                peaks.append(leaf_hash(entry));
            }
        }
    }

    #[test]
    fn peaks_of_another_size_are_refused() {
        let mut peaks = Peaks::default();
        (0..7_u8).for_each(|n| peaks.append(leaf_hash(&[n])));
        let bytes = peaks.to_bytes();
        assert_eq!(bytes.len(), 3 * HASH_LEN);
        assert!(Peaks::from_bytes(7, &bytes).is_some());
        assert!(Peaks::from_bytes(8, &bytes).is_none());
        assert!(Peaks::from_bytes(7, &bytes[1..]).is_none());
        assert!(Peaks::from_bytes(0, &[]).is_some_and(|empty| empty == Peaks::default()));
    }
}
