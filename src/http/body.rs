//! Reading the body of a request into memory, up to a limit.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::Problem;

/// How much of a body that is too large is read and thrown away, so that its sender, which may not look
/// at the response before it has sent everything, learns why it is refused and does not see a broken
/// connection.
const PATIENCE_BYTES: usize = 256 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a body.
///
/// # Errors
/// A problem for the sender: the body is larger than the limit, or did not arrive whole.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut body = body;
    let mut first = None;
    let mut more = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::bad_request(format!("the body did not arrive whole: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > limit {
            let rest = discard(body, PATIENCE_BYTES);
            let _ = tokio::time::timeout(PATIENCE, rest).await;
            return Err(Problem::too_large(limit));
        }
        // Most bodies come in one piece, which needs no copy.
        match &first {
            None => first = Some(data),
            Some(_) => more.extend_from_slice(&data),
        }
    }
    let Some(first) = first else { return Ok(Bytes::new()) };
    if more.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Ok(whole.freeze())
}

async fn discard(mut body: Body, most: usize) {
    let mut length = 0_usize;
    while let Some(Ok(frame)) = body.frame().await {
        length = length.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if length > most {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn body(pieces: &'static [&'static str]) -> Body {
        Body::from_stream(stream::iter(pieces.iter().map(|piece| Ok::<_, std::io::Error>(*piece))))
    }

    #[tokio::test]
    async fn a_body_is_whole_or_refused() {
        assert_eq!(read(Body::empty(), 0).await.unwrap(), Bytes::new());
        assert_eq!(read(body(&["ab", "cd", "e"]), 5).await.unwrap(), Bytes::from("abcde"));
        let problem = read(body(&["ab", "cd", "e"]), 4).await.unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.members["limitBytes"].as_u64()), (413, Some(4)));
    }
}
