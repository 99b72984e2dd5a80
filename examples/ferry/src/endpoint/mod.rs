//! One endpoint: many connections on one address, found by their ids, and a door that costs a stranger's packet nothing
//! but the answer.
//!
//! Bounded are: the connections, those of them whose handshake is not over, the answers that wait to be sent, and
//! what is remembered of connections that are over. A hello without a cookie leaves nothing behind but an answer that is
//! shorter than itself; so a flood of them from forged addresses costs its time and no memory.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use crate::config::{Config, Counters, Refused};
use crate::connection::{Connection, Ending, State};
use crate::packet::{self, Cookie, Data, LEAST_DATAGRAM, Malformed, Packet, Terms, Writer};
use crate::secret::Secret;

/// Answers to strangers that wait to be sent.
const MOST_REPLIES: usize = 256;
/// Connections that are over and whose peers may not know.
const MOST_EPITAPHS: usize = 4_096;

/// Names a connection of an endpoint: its local connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// See the [module](self). After each call, [`Endpoint::transmit`] is to be called until it returns nothing.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    secret: Secret,
    listens: bool,
    /// The keys are drawn from the secret, so nobody can choose them to collide.
    connections: HashMap<u64, Slot>,
    /// A server's connections by what the client chose, to know a hello that was said again.
    by_client: HashMap<(SocketAddr, u64), u64>,
    half_open: usize,
    epitaphs: HashMap<u64, Epitaph>,
    epitaphs_in_order: VecDeque<(u64, u64)>,
    replies: VecDeque<Reply>,
    /// Connections that may have something to send; each once.
    ready: VecDeque<u64>,
    /// Connections that the application should look at; each once.
    changed: VecDeque<u64>,
    deadlines: BTreeSet<(u64, u64)>,
    counters: Counters,
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    client: Option<(SocketAddr, u64)>,
    half_open: bool,
    is_ready: bool,
    is_changed: bool,
    /// What stands in `deadlines`. It may be too early: then nothing happens, and it is put right.
    deadline: Option<u64>,
}

/// Of a connection that is over: its peer is told so, should it still ask.
#[derive(Debug)]
struct Epitaph {
    remote: u64,
    next_number: u64,
    code: u32,
}

#[derive(Debug)]
enum Reply {
    Cookie {
        to: SocketAddr,
        client: u64,
        cookie: Cookie,
    },
    Close {
        to: SocketAddr,
        local: u64,
    },
}

impl Endpoint {
    /// An endpoint that takes connections if it `listens`. Each has a [`Secret`] of its own.
    pub fn new(config: Config, secret: Secret, listens: bool) -> Self {
        Self {
            config,
            secret,
            listens,
            connections: HashMap::new(),
            by_client: HashMap::new(),
            half_open: 0,
            epitaphs: HashMap::new(),
            epitaphs_in_order: VecDeque::new(),
            replies: VecDeque::new(),
            ready: VecDeque::new(),
            changed: VecDeque::new(),
            deadlines: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// Opens a connection to a server. None if there are too many.
    pub fn connect(&mut self, now_ns: u64, server: SocketAddr) -> Option<ConnectionId> {
        if self.connections.len() >= self.config.connections {
            return None;
        }
        let (local, secret) = (self.secret.draw_id(), self.secret.fork());
        self.insert(
            local,
            Connection::client(now_ns, server, local, &self.config, secret),
            None,
        );
        Some(ConnectionId(local))
    }

    fn insert(&mut self, local: u64, connection: Connection, client: Option<(SocketAddr, u64)>) {
        let half_open = client.is_some();
        self.half_open += usize::from(half_open);
        if let Some(client) = client {
            self.by_client.insert(client, local);
        }
        let slot = Slot {
            connection,
            client,
            half_open,
            is_ready: false,
            is_changed: false,
            deadline: None,
        };
        self.connections.insert(local, slot);
        self.touch(local);
    }

    /// A datagram has come. If it was of no use, that is counted, and the answer is why.
    pub fn receive(&mut self, now_ns: u64, from: SocketAddr, datagram: &[u8]) -> Option<Refused> {
        let received = match Packet::parse(datagram) {
            Err(Malformed::Checksum) => Err(self.counters.refuse(Refused::Checksum)),
            Err(_) => Err(self.counters.refuse(Refused::Malformed)),
            Ok(Packet::Hello { terms, cookie }) => {
                self.receive_hello(now_ns, from, datagram.len(), &terms, cookie)
            }
            Ok(Packet::Cookie { to, cookie }) => {
                self.with(to, |c| c.receive_cookie(now_ns, from, cookie))
            }
            Ok(Packet::Welcome { to, terms }) => {
                self.with(to, |c| c.receive_welcome(now_ns, from, &terms))
            }
            Ok(Packet::Data(data)) => self.receive_data(now_ns, from, datagram.len(), &data),
        };
        received.err()
    }

    fn with(
        &mut self,
        local: u64,
        act: impl FnOnce(&mut Connection) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let Some(slot) = self.connections.get_mut(&local) else {
            return Err(self.counters.refuse(Refused::Unexpected));
        };
        let done = act(&mut slot.connection);
        self.touch(local);
        self.mark_changed(local);
        done
    }

    fn receive_data(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        len: usize,
        data: &Data<'_>,
    ) -> Result<(), Refused> {
        if !self.connections.contains_key(&data.to) && self.epitaphs.contains_key(&data.to) {
            // Whoever knows the id was in this connection; a stranger's address cannot be made a target with it.
            return match data.close {
                None => self.reply(Reply::Close {
                    to: from,
                    local: data.to,
                }),
                Some(_) => Ok(()),
            };
        }
        let done = self.with(data.to, |connection| {
            connection.receive(now_ns, from, len, data)
        });
        if let Some(slot) = self
            .connections
            .get_mut(&data.to)
            .filter(|slot| slot.half_open)
        {
            slot.half_open = false;
            self.half_open -= 1;
        }
        done
    }

    /// A stranger, or a client that has shown where it is. Nothing is kept before that.
    fn receive_hello(
        &mut self,
        now_ns: u64,
        from: SocketAddr,
        len: usize,
        terms: &Terms,
        cookie: Cookie,
    ) -> Result<(), Refused> {
        // A short hello could make us send more than came.
        if !self.listens || terms.from == 0 || len < LEAST_DATAGRAM {
            return Err(self.counters.refuse(Refused::Unexpected));
        }
        let client = (from, terms.from);
        if let Some(local) = self.by_client.get(&client).copied() {
            self.with(local, |connection| {
                connection.greeted_again();
                Ok(())
            })
        } else if self.secret.accepts(now_ns, from, terms.from, cookie) {
            self.welcome(now_ns, client, terms)
        } else {
            self.counters.bad_cookie += u64::from(cookie.mac != 0);
            self.counters.cookies += 1;
            let cookie = self.secret.cookie(now_ns, from, terms.from);
            self.reply(Reply::Cookie {
                to: from,
                client: terms.from,
                cookie,
            })
        }
    }

    fn welcome(
        &mut self,
        now_ns: u64,
        client: (SocketAddr, u64),
        terms: &Terms,
    ) -> Result<(), Refused> {
        if self.half_open >= self.config.half_open
            || self.connections.len() >= self.config.connections
        {
            return Err(self.counters.refuse(Refused::NoPlace));
        }
        let (local, secret) = (self.secret.draw_id(), self.secret.fork());
        let connection = Connection::server(now_ns, client.0, local, terms, &self.config, secret);
        self.insert(local, connection, Some(client));
        Ok(())
    }

    fn reply(&mut self, reply: Reply) -> Result<(), Refused> {
        if self.replies.len() >= MOST_REPLIES {
            return Err(self.counters.refuse(Refused::NoPlace));
        }
        self.replies.push_back(reply);
        Ok(())
    }

    /// Whether [`Endpoint::transmit`] has anything to ask. It may still return nothing.
    pub fn is_ready(&self) -> bool {
        !self.replies.is_empty() || !self.ready.is_empty()
    }

    /// Whose packet this is, if it names a connection: the instance of the [`Secret`] that drew its id. The checksum is
    /// not looked at, so this says where to bring the packet, and not that it is right.
    pub fn instance_of(datagram: &[u8]) -> Option<u16> {
        packet::receiver(datagram).map(crate::secret::instance_of)
    }

    /// Forgets every connection to this peer.
    pub fn forget(&mut self, now_ns: u64, peer: SocketAddr) {
        let of_peer =
            |(local, slot): (&u64, &Slot)| (slot.connection.peer() == peer).then_some(*local);
        let found: Vec<u64> = self.connections.iter().filter_map(of_peer).collect();
        for local in found {
            self.remove(now_ns, ConnectionId(local));
        }
    }

    /// Writes the next packet to `buffer`, which has room for the configured datagram length, and says where it goes
    /// and how long it is. Connections take turns, a packet each.
    pub fn transmit(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        while let Some(reply) = self.replies.pop_front() {
            if let Some(sent) = self.write_reply(&reply, buffer) {
                self.counters.sent += 1;
                return Some(sent);
            }
        }
        while let Some(local) = self.ready.pop_front() {
            let Some(slot) = self.connections.get_mut(&local) else {
                continue;
            };
            if let Some(sent) = slot.connection.transmit(now_ns, buffer) {
                self.ready.push_back(local);
                return Some(sent);
            }
            slot.is_ready = false;
            self.schedule(local);
        }
        None
    }

    fn write_reply(&mut self, reply: &Reply, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        if buffer.len() < LEAST_DATAGRAM {
            return None;
        }
        match *reply {
            Reply::Cookie { to, client, cookie } => {
                Some((to, packet::write_cookie(buffer, client, cookie)))
            }
            Reply::Close { to, local } => {
                let epitaph = self.epitaphs.get_mut(&local)?;
                let number = epitaph.next_number;
                epitaph.next_number += 1;
                let mut writer = Writer::data(buffer, epitaph.remote, number, number);
                writer.extras(None, None, Some(epitaph.code));
                Some((to, writer.finish()))
            }
        }
    }

    /// When to call [`Endpoint::expire`], if nothing happens before.
    pub fn deadline(&self) -> Option<u64> {
        let epitaph = self
            .epitaphs_in_order
            .front()
            .map(|(until_ns, _)| *until_ns);
        let connection = self.deadlines.first().map(|(at_ns, _)| *at_ns);
        connection.into_iter().chain(epitaph).min()
    }

    /// Time has passed.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some((at_ns, local)) = self
            .deadlines
            .first()
            .copied()
            .filter(|(at_ns, _)| *at_ns <= now_ns)
        {
            self.deadlines.remove(&(at_ns, local));
            let Some(slot) = self.connections.get_mut(&local) else {
                continue;
            };
            slot.deadline = None;
            let connection = &mut slot.connection;
            if connection.deadline().is_some_and(|at_ns| at_ns <= now_ns) {
                connection.expire(now_ns);
            }
            if slot.half_open && slot.connection.state() == State::Closed(Ending::NoHandshake) {
                self.remove(now_ns, ConnectionId(local));
                continue;
            }
            if let State::Closed(_) = slot.connection.state() {
                self.mark_changed(local);
            }
            self.touch(local);
        }
        while self
            .epitaphs_in_order
            .front()
            .is_some_and(|(until_ns, _)| *until_ns <= now_ns)
        {
            self.forget_an_epitaph();
        }
    }

    fn forget_an_epitaph(&mut self) {
        if let Some((_, local)) = self.epitaphs_in_order.pop_front() {
            self.epitaphs.remove(&local);
        }
    }

    fn touch(&mut self, local: u64) {
        if let Some(slot) = self
            .connections
            .get_mut(&local)
            .filter(|slot| !slot.is_ready)
        {
            slot.is_ready = true;
            self.ready.push_back(local);
        }
    }

    fn mark_changed(&mut self, local: u64) {
        if let Some(slot) = self
            .connections
            .get_mut(&local)
            .filter(|slot| !slot.is_changed)
            && slot.connection.state() != State::Opening
        {
            slot.is_changed = true;
            self.changed.push_back(local);
        }
    }

    /// Puts the connection's deadline into the order. One that is later than what stands there is left until that comes:
    /// with most packets the deadline moves back a little, and this way that costs nothing.
    fn schedule(&mut self, local: u64) {
        let Some(slot) = self.connections.get_mut(&local) else {
            return;
        };
        let wanted = slot.connection.deadline();
        if let Some(stands) = slot
            .deadline
            .filter(|stands| wanted.is_none_or(|w| w < *stands))
        {
            self.deadlines.remove(&(stands, local));
            slot.deadline = None;
        }
        if let (None, Some(at_ns)) = (slot.deadline, wanted) {
            slot.deadline = wanted;
            self.deadlines.insert((at_ns, local));
        }
    }

    /// A connection that should be looked at: it has opened, or something has come, or it is over. Each is named once
    /// until it is asked for here, whatever happens; a server's new ones appear here for the first time.
    pub fn changed(&mut self) -> Option<ConnectionId> {
        while let Some(local) = self.changed.pop_front() {
            if let Some(slot) = self.connections.get_mut(&local) {
                slot.is_changed = false;
                return Some(ConnectionId(local));
            }
        }
        None
    }

    /// A connection, to do something with.
    pub fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.touch(id.0);
        self.connections
            .get_mut(&id.0)
            .map(|slot| &mut slot.connection)
    }

    /// A connection, to look at.
    pub fn peek(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id.0).map(|slot| &slot.connection)
    }

    /// Forgets a connection; one that is not over is broken off. Its peer is told once, and again should it ask, for as
    /// long as it could be waiting.
    pub fn remove(&mut self, now_ns: u64, id: ConnectionId) {
        let Some(mut slot) = self.connections.remove(&id.0) else {
            return;
        };
        slot.connection.abort(crate::connection::PROTOCOL_ERROR);
        self.half_open -= usize::from(slot.half_open);
        if let Some(client) = slot.client {
            self.by_client.remove(&client);
        }
        if let Some(at_ns) = slot.deadline {
            self.deadlines.remove(&(at_ns, id.0));
        }
        if let Some((remote, next_number, code)) = slot.connection.epitaph() {
            if self.epitaphs_in_order.len() >= MOST_EPITAPHS {
                self.forget_an_epitaph();
            }
            self.epitaphs.insert(
                id.0,
                Epitaph {
                    remote,
                    next_number,
                    code,
                },
            );
            self.epitaphs_in_order
                .push_back((now_ns + self.config.idle_ns, id.0));
            if slot.connection.has_to_say_close() {
                let to = slot.connection.peer();
                // Without room it is told when it asks.
                let _ = self.reply(Reply::Close { to, local: id.0 });
            }
        }
        self.counters.add(slot.connection.counters());
    }

    /// What was counted, with what the connections that are still there have counted.
    pub fn counters(&self) -> Counters {
        let mut sum = self.counters;
        self.connections
            .values()
            .for_each(|slot| sum.add(slot.connection.counters()));
        sum
    }

    /// How many there are: connections, those of them that are half open, and what is remembered of others.
    pub fn population(&self) -> (usize, usize, usize) {
        (self.connections.len(), self.half_open, self.epitaphs.len())
    }
}
