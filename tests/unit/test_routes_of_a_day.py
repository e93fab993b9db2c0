# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary day needs nothing outside the list.

What docker 26.1, compose 2.26 and buildx sent on the lab host, written down by a relay between them
and the engine; ids and queries are shortened, and each endpoint is kept once.
"""

from __future__ import annotations

import pytest
from ds01.core import routes
from ds01.core.callers import ENFORCE, Caller
from ds01.core.gateway_decision import ALLOW, DENY, judge
from ds01.core.targets import parse_target

ALICE = Caller(1001, "alice", "student", ENFORCE)
DANA = Caller(1004, "dana", "admin", ENFORCE, admin=True)
DAY = """
docker version                  GET /v1.45/version
docker info                     HEAD /_ping
docker info                     GET /v1.45/info
docker ps -a                    GET /v1.45/containers/json?all=1
docker images                   GET /v1.45/images/json
docker system df                GET /v1.45/system/df
docker plugin ls                GET /v1.45/plugins
docker inspect no/such:1        GET /v1.45/containers/no/such:1/json
docker inspect no/such:1        GET /v1.45/images/no/such:1/json
docker inspect no/such:1        GET /v1.45/networks/no/such:1
docker inspect no/such:1        GET /v1.45/volumes/no/such:1
docker inspect no/such:1        GET /v1.45/plugins/no/such:1/json
docker search x                 GET /v1.45/images/search?term=x
docker volume ls                GET /v1.45/volumes
docker network ls               GET /v1.45/networks
docker run                      POST /v1.45/containers/create?name=probe1
docker run                      POST /v1.45/containers/4fa6e0f0c678/attach?stderr=1&stdout=1&stream=1 tcp
docker run                      POST /v1.45/containers/4fa6e0f0c678/wait?condition=next-exit
docker run                      POST /v1.45/containers/4fa6e0f0c678/start
docker exec                     POST /v1.45/containers/probe1/exec
docker exec                     POST /v1.45/exec/4fa6e0f0c678/start tcp
docker exec                     GET /v1.45/exec/4fa6e0f0c678/json
docker logs                     GET /v1.45/containers/4fa6e0f0c678/logs?stderr=1&stdout=1&tail=all
docker cp                       GET /v1.45/containers/probe1/archive?path=%2Fetc%2Fhostname
docker cp                       HEAD /v1.45/containers/probe1/archive?path=%2Ftmp%2Fh
docker cp                       PUT /v1.45/containers/probe1/archive?noOverwriteDirNonDir=true&path=%2Ftmp
docker top                      GET /v1.45/containers/probe1/top
docker diff                     GET /v1.45/containers/probe1/changes
docker stats --no-stream        GET /v1.45/containers/probe1/stats?stream=0
docker update                   POST /v1.45/containers/probe1/update
docker rename                   POST /v1.45/containers/probe1/rename?name=probe2
docker pause                    POST /v1.45/containers/probe2/pause
docker unpause                  POST /v1.45/containers/probe2/unpause
docker commit                   POST /v1.45/commit?author=&comment=&container=probe2&repo=probe&tag=img
docker tag                      POST /v1.45/images/probe:img/tag?repo=probe&tag=two
docker history                  GET /v1.45/images/probe:img/history
docker save                     GET /v1.45/images/get?names=lab%2Fbase
docker load                     POST /v1.45/images/load?quiet=1
docker rmi                      DELETE /v1.45/images/probe:img
docker export                   GET /v1.45/containers/probe2/export
docker kill                     POST /v1.45/containers/probe2/kill
docker restart                  POST /v1.45/containers/probe4/restart?t=0
docker stop                     POST /v1.45/containers/probe4/stop?t=0
docker rm -f                    DELETE /v1.45/containers/probe2?force=1
docker rm lab/base              DELETE /v1.45/containers/lab/base
docker pull                     POST /v1.45/images/create?fromImage=nothing.invalid%2Fx&tag=latest
docker push                     POST /v1.45/images/localhost:1/a/push?tag=latest
docker login                    POST /v1.45/auth
docker events                   GET /v1.45/events?since=1795333129&until=1795333130
docker container prune          POST /v1.45/containers/prune?filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D
docker image prune              POST /v1.45/images/prune?filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D
docker volume prune             POST /v1.45/volumes/prune?filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D
docker network prune            POST /v1.45/networks/prune?filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D
docker network create           POST /v1.45/networks/create
docker network connect          POST /v1.45/networks/probe_n/connect
docker network disconnect       POST /v1.45/networks/probe_n/disconnect
docker network rm               DELETE /v1.45/networks/4fa6e0f0c678
docker volume create            POST /v1.45/volumes/create
docker volume inspect           GET /v1.45/volumes/probe_v
docker volume rm                DELETE /v1.45/volumes/probe_v
DOCKER_BUILDKIT=0 docker build  POST /v1.45/build?buildargs=%7B%7D&cachefrom=%5B%5D&cgroupparent=&version=1
docker compose up               GET /v1.45/networks?filters=%7B%22name%22%3A%7B%22probe-c_n%22%3Atrue%7D%7D
SDKs                            GET /version
SDKs                            GET /_ping
""".strip().splitlines()
# Passes for those whom the mode or their right lets through.
BUILDX = ("POST /grpc h2c", "POST /session h2c")


def asked(line: str) -> tuple[str, bytes, str]:
    method, raw, *upgrade = line.split()
    return method, raw.encode("ascii"), upgrade[0] if upgrade else ""


@pytest.mark.parametrize("line", DAY)
def test_a_request_of_an_ordinary_day_passes_where_the_list_is_enforced(line: str) -> None:
    method, raw, upgrade = asked(line[32:])
    target = parse_target(raw, method)
    verdict = judge(ALICE, method, target, routes.find(method, target.path), upgrade, (1, 45))
    assert (verdict.decision, verdict.rule) == (ALLOW, "")


@pytest.mark.parametrize("line", BUILDX)
def test_a_build_with_buildkit_is_an_admins_where_the_list_is_enforced(line: str) -> None:
    method, raw, upgrade = asked(line)
    target = parse_target(raw, method)
    route = routes.find(method, target.path)
    assert judge(DANA, method, target, route, upgrade, (1, 45)).decision == ALLOW
    assert judge(ALICE, method, target, route, upgrade, (1, 45)).decision == DENY
