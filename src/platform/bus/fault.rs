//! What can go wrong between us and the brokers, told apart by who can do something about it.
use crate::platform::tls::AuthoritiesError;
use rskafka::client::error::{Error as KafkaError, ProtocolError};

/// Why nothing was published, as far as we know. The texts name no address: `/readyz` shows them.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("kafka.ca_file cannot be read")]
    Authorities(#[source] AuthoritiesError),
    #[error("{0} is needed with kafka.security = \"sasl_ssl\"")]
    Missing(&'static str),
    #[error("the brokers refuse kafka.username with kafka.password")]
    Login(#[source] Box<KafkaError>),
    #[error("the brokers do not offer SCRAM-SHA-256, which kafka.security = \"sasl_ssl\" asks for")]
    Mechanism(#[source] Box<KafkaError>),
    #[error(
        "the brokers' certificate is not of an authority in kafka.ca_file, or not for the name in kafka.brokers"
    )]
    Certificate(#[source] Box<KafkaError>),
    #[error("there is no topic {0}, or kafka.username may not see it: make it as docs/OPERATIONS.md says")]
    Topic(String),
    #[error("kafka.username may not do this to the topic")]
    NotAllowed(#[source] Box<KafkaError>),
    #[error("the topic takes no records of this size: raise its max.message.bytes")]
    TooLarge(#[source] Box<KafkaError>),
    #[error("the topic has too few replicas in sync to take records")]
    Replicas(#[source] Box<KafkaError>),
    #[error("the brokers do not answer in time")]
    Timeout,
    #[error("the brokers cannot be reached, or broke off")]
    Unavailable(#[source] Box<KafkaError>),
}

impl BusError {
    pub(super) fn missing(topic: &str) -> Self {
        Self::Topic(topic.to_owned())
    }

    /// Must a person do something first? Then trying again soon is of no use, and a wrong password tried again and
    /// again locks an account.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Authorities(_)
            | Self::Missing(_)
            | Self::Login(_)
            | Self::Mechanism(_)
            | Self::Certificate(_)
            | Self::Topic(_)
            | Self::NotAllowed(_)
            | Self::TooLarge(_) => true,
            Self::Replicas(_) | Self::Timeout | Self::Unavailable(_) => false,
        }
    }

    /// Is it said also by a broker that has just come up, and knows no topics yet?
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Topic(_))
    }

    /// Of a call about this topic.
    pub(super) fn of(error: KafkaError, topic: &str) -> Self {
        use ProtocolError as P;
        if let KafkaError::ServerError { protocol_error, .. } = &error {
            match protocol_error {
                P::UnknownTopicOrPartition => return Self::missing(topic),
                P::TopicAuthorizationFailed | P::ClusterAuthorizationFailed => {
                    return Self::NotAllowed(error.into());
                }
                P::MessageTooLarge | P::RecordListTooLarge => return Self::TooLarge(error.into()),
                P::NotEnoughReplicas | P::NotEnoughReplicasAfterAppend | P::RequestTimedOut => {
                    return Self::Replicas(error.into());
                }
                _ => (),
            }
        }
        // Errors of the handshakes come wrapped in types that are not public: only their text tells them apart.
        let text = error.to_string();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&["SaslAuthenticationFailed"]) {
            Self::Login(error.into())
        } else if says(&["UnsupportedSaslMechanism", "IllegalSaslState"]) {
            Self::Mechanism(error.into())
        } else if says(&["invalid peer certificate"]) {
            Self::Certificate(error.into())
        } else {
            Self::Unavailable(error.into())
        }
    }
}
