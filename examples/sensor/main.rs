//! A protocol of your own: a header that is written down once, read, written, printed and compared.
//!
//! ```text
//! cargo run --example sensor
//! cargo run --example sensor -- 'sensor(kind=request, id=9, seq=1)'
//! linecard dissector sensor > sensor.lua && tshark -X lua_script:sensor.lua -V -r trace.pcap
//! ```

mod header;

use header::{Sensor, SensorView};
use linecard::wire::MacAddr;
use linecard::wire::describe::{Diff, Headers};
use linecard::{Mbuf, Mempool, MempoolConfig};

/// Answers a request with a reading, in an mbuf of its own: the payload first, the header in front of it.
fn answer(request: &[u8], pool: &Mempool) -> Result<Mbuf, Box<dyn std::error::Error>> {
    let request = SensorView::parse(request)?;
    if !request.checksum_ok() || request.kind() != Sensor::KIND_REQUEST {
        return Err("not a request".into());
    }
    let reading = Sensor {
        kind: Sensor::KIND_READING,
        state: Sensor::STATE_CALIBRATED | Sensor::STATE_LAST,
        id: request.id(),
        seq: request.seq(),
        radio: MacAddr([2, 0, 0, 0, 0, 7]),
        labels: b"cellar",
        ..Sensor::default()
    };
    let payload = b"21.5 degrees";
    let mut mbuf = pool.alloc().ok_or("the pool is empty")?;
    mbuf.append(payload.len())
        .ok_or("no tailroom")?
        .copy_from_slice(payload);
    mbuf.prepend(reading.header_len()).ok_or("no headroom")?;
    let frame = mbuf.data_mut().ok_or("somebody shares this mbuf")?;
    reading.emit(frame, payload.len())?.fill_checksum();
    Ok(mbuf)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let headers = Headers::standard().with::<Sensor<'_>>();
    let text = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "sensor(id=7, seq=258)".into());
    let request = headers.expression(&text)?.to_bytes()?;

    let pool = Mempool::new(MempoolConfig::new("sensor", 64))?;
    let reading = answer(&request, &pool)?;

    let (request, reading) = (
        headers.dissect("sensor", &request),
        headers.dissect("sensor", reading.data()),
    );
    println!(
        "request: {request}\nreading: {reading}\n\n{}",
        reading.pretty()
    );
    println!("What differs:\n{}", Diff::between(&request, &reading));
    Ok(())
}
