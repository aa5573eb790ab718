//! An HTTP server for the tests: files of a folder, a camera's pictures one by one, and redirects.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Serves `folder` at the root, `picture.jpg` of it over and over at `/camera.mjpeg` (25 a second), and a redirect
/// to `/x` at `/to/x`. Gives its address.
pub async fn serve(folder: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let folder = folder.to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, folder.clone()));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, folder: PathBuf) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1)?;
    if let Some(place) = path.strip_prefix("/to/") {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: /{place}\r\nContent-Length: 0\r\n\r\n");
        return stream.write_all(answer.as_bytes()).await.ok();
    }
    if path == "/camera.mjpeg" {
        return pictures(stream, &std::fs::read(folder.join("picture.jpg")).unwrap()).await;
    }
    let Ok(bytes) = std::fs::read(folder.join(path.trim_start_matches('/'))) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.ok();
    };
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.write_all(&bytes).await.ok()
}

async fn pictures(mut stream: TcpStream, picture: &[u8]) -> Option<()> {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n";
    stream.write_all(head).await.ok()?;
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    loop {
        ticks.tick().await;
        let part = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
        stream.write_all(part.as_bytes()).await.ok()?;
        stream.write_all(picture).await.ok()?;
        stream.write_all(b"\r\n").await.ok()?;
    }
}
