//! ffmpeg can be called by one RTMP client, but sends what was asked for under another stream's number, which
//! GStreamer passes over. This stands between them and sets the number right.

use std::{collections::HashMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// Passes one client on to `server`. Gives its address.
pub async fn relay(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(server).await else { continue };
            let ((mut from_client, to_client), (from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            tokio::spawn(renumber(from_server, to_client));
        }
    });
    address
}

/// The chunks of a connection (RTMP 1.0 §5.3), media under stream 1.
async fn renumber(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) -> std::io::Result<()> {
    let mut handshake = vec![0; 1 + 2 * 1536];
    from.read_exact(&mut handshake).await?;
    to.write_all(&handshake).await?;
    // Of each chunk stream: its message's length, type, and what is left of it.
    let mut streams = HashMap::<u8, (usize, u8, usize)>::new();
    let mut most = 128;
    loop {
        let basic = from.read_u8().await?;
        let (form, stream) = (basic >> 6, basic & 63);
        assert!(stream >= 2, "ffmpeg uses few chunk streams");
        let mut header = vec![0; [11, 7, 3, 0][usize::from(form)]];
        from.read_exact(&mut header).await?;
        let state = streams.entry(stream).or_default();
        if form <= 1 {
            state.0 = usize::from(header[3]) << 16 | usize::from(header[4]) << 8 | usize::from(header[5]);
            state.1 = header[6];
        }
        if state.2 == 0 {
            state.2 = state.0;
        }
        if form == 0 && matches!(state.1, 8 | 9 | 18) {
            header[7..].copy_from_slice(&1u32.to_le_bytes());
        }
        let mut part = vec![0; state.2.min(most)];
        from.read_exact(&mut part).await?;
        state.2 -= part.len();
        if state.1 == 1 {
            most = u32::from_be_bytes(part[..4].try_into().unwrap()) as usize;
        }
        to.write_all(&[&[basic], &header[..], &part[..]].concat()).await?;
    }
}
