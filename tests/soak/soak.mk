# `make soak`: many processes against one lease book, killed at every step, which takes half an hour;
# then lives of containers through the door, which takes as long, and lives whose owners are followed.

SOAK_REQUESTS ?= 100000
SOAK_LIVES ?= 10000
SOAK_OWNED ?= 5000

.PHONY: soak
soak: soak-leases soak-door soak-owners ## all of these

.PHONY: soak-door
soak-door: setup ## 10,000 lives of containers through the door, the gateway restarted meanwhile; as root
	PYTHONPATH=files/runtime:tests nice -n 5 python -m soak.door_lives --lives $(SOAK_LIVES)

.PHONY: soak-owners
soak-owners: setup ## 5,000 lives whose owners are followed; engine, gateway, daemon killed at random; as root
	PYTHONPATH=files/runtime:tests nice -n 5 python -m soak.owner_lives --lives $(SOAK_OWNED)

.PHONY: soak-leases
soak-leases: setup ## ask the lease book 100,000 times, killing at every step
	PYTHONPATH=files/runtime:tests nice -n 15 python -m soak.soak --requests $(SOAK_REQUESTS) --processes 8

SOAK_BYTES ?= 8G

.PHONY: soak-streams
soak-streams: setup ## 8 GB each way through gateway and pump: bytes identical, memory flat
	PYTHONPATH=files/runtime:tests python -m soak.gateway_streams --bytes $(SOAK_BYTES)

SECONDS ?= 600

.PHONY: fuzz
fuzz: setup ## made-up bytes for the gateway; SECONDS=600 says for how long
	DS01_FUZZ_SECONDS=$(SECONDS) python -m pytest -s tests/property/test_gateway_fuzz.py tests/property/test_gateway_fuzz_door.py
