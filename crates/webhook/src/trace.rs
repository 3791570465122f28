//! The spans of reviews, in the traces of their callers.

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tagpin_domain::subject::Phase;
use tracing::field::Empty;
use tracing::{Level, Span, debug_span, span_enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Returns the span of a review, in the trace of the caller.
pub(crate) fn review(phase: Phase, headers: &HeaderMap) -> Span {
    let span = debug_span!(
        "review",
        otel.kind = "server",
        webhook = webhook(phase),
        uid = Empty,
        namespace = Empty,
        kind = Empty,
        operation = Empty,
        decision = Empty,
    );
    if !span.is_disabled() {
        let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // This fails for spans that nobody collects, which are in no trace anyway.
        let _ = span.set_parent(caller);
    }
    span
}

/// Records in the current span the object that the review is about.
pub(crate) fn about(uid: &str, namespace: &str) {
    if span_enabled!(Level::DEBUG) {
        Span::current().record("uid", uid).record("namespace", namespace);
    }
}

/// Records in the current span the outcome of the review.
pub(crate) fn decided(kind: &'static str, operation: &'static str, decision: &'static str) {
    if span_enabled!(Level::DEBUG) {
        Span::current().record("kind", kind).record("operation", operation).record("decision", decision);
    }
}

/// Returns the webhook's word in metrics and traces.
pub(crate) const fn webhook(phase: Phase) -> &'static str {
    match phase {
        Phase::Mutate => "pin",
        Phase::Validate => "validate",
    }
}
