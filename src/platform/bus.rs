//! The bus: topics of ordered partitions, written here and read by others. Apache Kafka, or memory in tests.
//!
//! **Invariant:** a record whose publishing was answered with `Ok` is on the bus. One whose publishing failed may be
//! there too, and is there twice once it is published again: whoever reads drops what he has seen.
mod fault;
mod kafka;

pub use fault::BusError;

use super::config;
use chrono::{DateTime, Utc};
use kafka::Kafka;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Where records go.
pub enum Bus {
    /// Real brokers.
    Kafka(Box<Kafka>),
    /// This process, for tests.
    Memory(Memory),
}

/// What is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Decides the partition: records with one key keep their order.
    pub key: String,
    /// What it says.
    pub value: Vec<u8>,
    /// What can be read without opening the value.
    pub headers: BTreeMap<String, Vec<u8>>,
    /// When it came to be.
    pub at: DateTime<Utc>,
}

impl Record {
    /// About what it takes of a batch.
    fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.key.len() + self.value.len() + headers.sum::<usize>()
    }
}

impl Bus {
    /// What the configuration names; `None`: no brokers, no bus. Connects when it is asked for something.
    pub fn open(config: &config::Kafka) -> Result<Option<Self>, BusError> {
        if config.brokers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self::Kafka(Box::new(Kafka::new(config)?))))
    }

    /// Keeps every record of these topics, which have so many partitions each.
    pub fn memory(topics: &[(&str, usize)]) -> Self {
        let topics =
            topics.iter().map(|(name, partitions)| ((*name).to_owned(), vec![vec![]; *partitions])).collect();
        Self::Memory(Memory { topics: Mutex::new(topics) })
    }

    /// Can we log in, and is the topic there? How many partitions it has. Makes no topic by asking for it.
    pub async fn check(&self, topic: &str) -> Result<usize, BusError> {
        match self {
            Self::Kafka(kafka) => kafka.check(topic).await,
            Self::Memory(memory) => {
                memory.with(topic, |partitions| partitions.len()).ok_or_else(|| BusError::missing(topic))
            }
        }
    }

    /// Returns once every record is acknowledged. Records of one key keep their order. Those that are acknowledged are
    /// taken out: after a failure the rest is there to be published again. After a call that was abandoned, none is.
    pub async fn publish(&self, topic: &str, records: &mut Vec<Record>) -> Result<(), BusError> {
        match self {
            Self::Kafka(kafka) => kafka.publish(topic, records).await,
            Self::Memory(memory) => memory.publish(topic, records),
        }
    }

    /// What the memory variant holds of a topic, by partition.
    pub fn published(&self, topic: &str) -> Vec<Vec<Record>> {
        match self {
            Self::Kafka(_) => vec![],
            Self::Memory(memory) => memory.with(topic, |partitions| partitions.clone()).unwrap_or_default(),
        }
    }
}

/// Topics of this process.
pub struct Memory {
    topics: Mutex<BTreeMap<String, Vec<Vec<Record>>>>,
}

impl Memory {
    fn with<T>(&self, topic: &str, see: impl FnOnce(&mut Vec<Vec<Record>>) -> T) -> Option<T> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).get_mut(topic).map(see)
    }

    fn publish(&self, topic: &str, records: &mut Vec<Record>) -> Result<(), BusError> {
        let append = |partitions: &mut Vec<Vec<Record>>| {
            for record in records.drain(..) {
                let place = partition_of(&record.key, partitions.len());
                if let Some(partition) = partitions.get_mut(place) {
                    partition.push(record);
                }
            }
        };
        self.with(topic, append).ok_or_else(|| BusError::missing(topic))
    }
}

/// The partition of a key: the one in which every Kafka client would look for it (murmur2, as in Kafka's own default).
pub fn partition_of(key: &str, partitions: usize) -> usize {
    let hash = usize::try_from(murmur2(key.as_bytes()) & 0x7FFF_FFFF).unwrap_or_default();
    hash.checked_rem(partitions).unwrap_or_default()
}

fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5BD1_E995;
    const SEED: u32 = 0x9747_B28C;
    let mix = |word: u32| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 24)).wrapping_mul(M)
    };
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = SEED ^ length;
    for word in words {
        hash = hash.wrapping_mul(M) ^ mix(u32::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_own_clients_look_for_them() {
        // The values of Kafka's own test of its hash.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_of("abc", 7), 479_470_107 % 7);
        assert_eq!(partition_of("abc", 0), 0);
    }
}
