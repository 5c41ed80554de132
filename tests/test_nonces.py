"""No nonce is used twice, whatever forks: they are read from what is stored."""

from __future__ import annotations

from peers import Peer
from servers import RedisServer
from vault import KEY, entries

from cachekit import Cache, CacheConfig

#: Header of a plain encrypted entry: what it must have, load time, fingerprint.
HEADER = 42 + 4 + 16
MANY = 400


class Writer:
    def __init__(self, cache: Cache) -> None:
        self.write_one = cache(name="nonces", ttl=600)(lambda who, n: n)

    def write(self, who: str, count: int) -> None:
        for n in range(count):
            self.write_one(who, n)


def nonces(server: RedisServer) -> list[bytes]:
    return [data[HEADER : HEADER + 12] for data in entries(server).values()]


def test_many_writes_and_forks(redis_server: RedisServer) -> None:
    """Children of one process, forked before and after it has encrypted, all at once,
    and children of children."""
    config = CacheConfig(namespace="test", master_key=KEY)
    cache = Cache(config, backend=redis_server.url)
    writer = Writer(cache)
    early = Peer(lambda: writer)
    writer.write("parent", MANY)
    peers = [early, *(Peer(lambda: writer) for _ in range(3))]
    for which, peer in enumerate(peers):
        peer.tell("write", f"child {which}", MANY)
    writer.write("parent again", MANY)
    for peer in peers:
        peer.answer()
        peer.close()
    used = nonces(redis_server)
    assert len(used) == 6 * MANY and len(set(used)) == len(used)
    assert len({nonce[:8] for nonce in used}) == 5, "a prefix for each process"
    cache.close()


def test_the_same_value_is_never_encrypted_alike(redis_server: RedisServer) -> None:
    cache = Cache(
        CacheConfig(namespace="test", master_key=KEY), backend=redis_server.url
    )
    write = Writer(cache).write_one
    seen = set()
    for _ in range(50):
        write.refresh("same", 1)
        ((_, data),) = entries(redis_server).items()
        seen.add((data[HEADER : HEADER + 12], data[HEADER + 12 :]))
    assert (
        len({nonce for nonce, _ in seen}) == len({sealed for _, sealed in seen}) == 50
    )
    cache.close()
