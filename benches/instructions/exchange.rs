//! A sticky request and its response through the built program, with the small origin and the one
//! client with which the counts of `instructions.txt` have always been taken.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::balancers::stayput;
use crate::callgrind::{Counted, Running, command, free_address, total};
use crate::visits::connect;

/// A sticky request and its response over kept connections, including the access log.
pub(crate) fn exchange() -> Counted {
    const COUNT: u32 = 2_000;
    let room = tempfile::tempdir()?;
    let origin = TcpListener::bind("127.0.0.1:0")?;
    let target = origin.local_addr()?;
    std::thread::spawn(move || origin.incoming().flatten().for_each(answer));
    let address = free_address()?;
    let folder = room.path().display();
    let file = room.path().join("stayput.toml");
    fs::write(
        &file,
        format!(
            "[runtime]\nworkers = 1\nstate_dir = \"{folder}\"\n[log]\n\
             access = {{ to = \"{folder}/access.log\" }}\n[listener.web]\n\
             address = \"{address}\"\n[target_group.app]\ntargets = [\"{target}\"]\n"
        ),
    )?;
    let counts = room.path().join("counts");
    let mut command = command(&counts);
    command.arg("--instr-atstart=no").arg(stayput());
    let running = Running::start(command.arg("run").arg("-c").arg(&file), &counts, address)?;
    let mut client = connect(address)?;
    let first = ask(&mut client, "theme=dark")?;
    let cookie = first
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("set-cookie: "))
        .find_map(|line| line.split(';').next().filter(|pair| pair.starts_with("AWSALB=")))
        .ok_or("the answer set no cookie")?;
    let cookies = format!("theme=dark; {cookie}");
    for _ in 0..200 {
        ask(&mut client, &cookies)?;
    }
    running.control(&["-i", "on"])?;
    for _ in 0..COUNT {
        ask(&mut client, &cookies)?;
    }
    running.control(&["-i", "off"])?;
    running.end()?;
    Ok(total(&counts)? / f64::from(COUNT))
}

fn ask(client: &mut TcpStream, cookies: &str) -> Result<String, Box<dyn Error>> {
    let request = format!(
        "GET /cart?item=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\n\
         Accept: */*\r\nCookie: {cookies}\r\n\r\n"
    );
    client.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut room = [0; 4_096];
    while !answer.ends_with(b"hello") {
        let count = client.read(&mut room)?;
        if count == 0 {
            return Err("the balancer closed the connection".into());
        }
        answer.extend_from_slice(&room[..count]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn answer(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        let mut filled = 0;
        while let Ok(count @ 1..) = stream.read(&mut room[filled..]) {
            filled += count;
            if room[..filled].ends_with(b"\r\n\r\n") {
                filled = 0;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n";
                let _ = stream.write_all(format!("{head}\r\nhello").as_bytes());
            }
        }
    });
}
