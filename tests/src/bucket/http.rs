//! HTTP side of the bucket: byte counts per connection, a record of requests, and a clock that can be set.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Incoming;
use hyper::header::{DATE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::objects::Service;
use super::{ACCESS_KEY, Asked, SECRET_KEY, Shared};

/// Largest difference between a request's clock and the bucket's, in seconds.
const MAX_SKEW_S: i64 = 15 * 60;

/// Serves until dropped.
pub(super) async fn serve(listener: std::net::TcpListener, bucket: String, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a socket that does not block");
    let mut builder = S3ServiceBuilder::new(Service { bucket, shared: Arc::clone(&shared) });
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    // s3s does not check the clock.
    let mut config = S3Config::default();
    config.presigned_url_max_skew_time_secs = u32::MAX;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    let service = builder.build();
    while let Ok((stream, _)) = listener.accept().await {
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        let counted = Counted { stream, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(&service, &shared, request));
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(counted), answer).await);
        });
    }
}

async fn answer(
    service: &S3Service,
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Infallible> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let condition = header("if-none-match").or_else(|| header("if-match"));
    let content_sha256 = header("x-amz-content-sha256");
    let ahead = shared.clock_ahead_s.load(Ordering::SeqCst);
    let now = now_s() + ahead;
    let skewed = header("x-amz-date").and_then(|date| seconds(&date)).is_some_and(|at| (at - now).abs() > MAX_SKEW_S);
    let mut response = if skewed {
        let text = "<?xml version=\"1.0\"?><Error><Code>RequestTimeTooSkewed</Code>\
                    <Message>The difference between the request time and the current time is too large.</Message></Error>";
        let mut response = Response::new(s3s::Body::from(text.to_owned()));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    } else {
        service.call(request.map(s3s::Body::from)).await.unwrap_or_else(|error| {
            let mut response = Response::new(s3s::Body::from(format!("{error:?}")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    };
    if ahead != 0 {
        response.headers_mut().insert(DATE, http_date(now));
    }
    let asked = Asked { method, path, condition, content_sha256, status: response.status().as_u16() };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    Ok(response)
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// Parses a time such as `20261124T170000Z` into Unix seconds.
fn seconds(date: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    // Days of the civil calendar, with years that start in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + part(9..11)? * 3600 + part(11..13)? * 60 + part(13..15)?)
}

fn http_date(seconds: i64) -> HeaderValue {
    let at = UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    HeaderValue::from_str(&httpdate::fmt_http_date(at)).expect("a date is plain text")
}

/// Connection that counts its bytes.
struct Counted {
    stream: TcpStream,
    shared: Arc<Shared>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.shared.bytes_in.fetch_add((buf.filled().len() - before) as u64, Ordering::SeqCst);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.shared.bytes_out.fetch_add(*written as u64, Ordering::SeqCst);
        }
        polled
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (date, at) in
            [("19700101T000000Z", 0), ("20000301T000001Z", 951_868_801), ("20240229T235959Z", 1_709_251_199)]
        {
            assert_eq!(seconds(date), Some(at), "{date}");
        }
        assert_eq!(seconds("yesterday"), None);
    }
}
