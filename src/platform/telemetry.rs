//! Logs and traces.
use super::config::{LogFormat, Telemetry};
use opentelemetry::{
    KeyValue, global,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TraceId, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::ParseError, layer::SubscriberExt as _};

const SERVICE: &str = "identityd";
/// Anybody can send what is no HTTP: that is no error of ours. What is set comes after it and decides.
const QUIET: &str = "actix_http=off";

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("telemetry.log is no filter")]
    Filter(#[from] ParseError),
    #[error("telemetry.otlp_endpoint cannot be used")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("logging was set up before")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sends what is left when dropped.
#[derive(Default)]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(error = chain(&error), "the last traces were not sent");
        }
    }
}

/// Sets up logs on standard error, and traces where an endpoint is named. Call it before the async runtime starts:
/// the exporter's client blocks, on a thread of its own.
pub fn start(config: &Telemetry) -> Result<Guard, TelemetryError> {
    type Boxed = Box<dyn Layer<Registry> + Send + Sync>;
    let lines: Boxed = match config.format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr).boxed()
        }
    };
    // The transport to Vault writes whole answers, with what it was asked to unwrap, at its finest level.
    let filter = filter(&config.log)?.add_directive("hashicorp_vault=off".parse()?);
    let mut layers = vec![lines.with_filter(filter).boxed()];
    let mut guard = Guard::default();
    if let Some(endpoint) = &config.otlp_endpoint {
        let provider = provider(endpoint, config.trace_ratio)?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(SERVICE));
        layers.push(layer.with_filter(EnvFilter::try_new("info,identityd=debug")?).boxed());
        guard.0 = Some(provider);
    }
    tracing::subscriber::set_global_default(Registry::default().with(layers))?;
    Ok(guard)
}

fn filter(log: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{QUIET},{log}"))
}

/// Can `start` read it?
pub fn is_filter(log: &str) -> bool {
    filter(log).is_ok()
}

fn provider(endpoint: &str, ratio: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name(SERVICE).with_attribute(version).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .with_sampler(sampler)
        .build())
}

/// An error with all that is below it, for logs: they would show its own text only.
pub fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Logs when something begins to fail and when it works again, not each time that it fails in between.
pub struct Trouble {
    what: &'static str,
    failing: bool,
}

impl Trouble {
    /// What may fail, for the log.
    pub fn of(what: &'static str) -> Self {
        Self { what, failing: false }
    }

    /// Notes how it went this time.
    pub fn note<T, E: std::error::Error>(&mut self, result: Result<T, E>) -> Option<T> {
        let failed_before = std::mem::replace(&mut self.failing, result.is_err());
        match result {
            Ok(value) => {
                if failed_before {
                    tracing::info!("{} works again", self.what);
                }
                Some(value)
            }
            Err(error) => {
                if !failed_before {
                    tracing::warn!(error = chain(&error), "{} fails", self.what);
                }
                None
            }
        }
    }
}

/// Continues the caller's trace (W3C Trace Context), if the carrier has one.
pub fn continue_trace(span: &Span, carrier: &dyn Extractor) {
    let context = TraceContextPropagator::new().extract(carrier);
    // Without a tracing layer there is nothing to continue.
    let _ = span.set_parent(context);
}

/// The trace that the current span belongs to, as 32 hexadecimal digits.
pub fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let trace = context.span().span_context().trace_id();
    (trace != TraceId::INVALID).then(|| trace.to_string())
}
