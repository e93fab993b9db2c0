# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody does with docker and compose on an ordinary day: labels with bash command lines.

``$N`` is the name of who does it. Later steps stand on earlier ones, so the order counts. Each
docker command costs half an emulated second, each container's life three.
"""

from __future__ import annotations

IMAGES = [
    ("load", "docker load -i /var/tmp/ds01-lab-base.tar"),
    ("load -q of stdin", "docker load -q < /var/tmp/ds01-lab-base.tar"),
    ("tag", "docker tag lab/base $N/base:day"),
    ("images", "docker images $N/base"),
    (
        "image inspect",
        "docker image inspect -f '{{json .Config}} {{json .RootFS}} {{.Size}} {{.Comment}}' $N/base:day",
    ),
    ("history", "docker history --no-trunc $N/base:day"),
    ("save", "docker save $N/base:day | tar t | sort | wc -l"),
]

RUNS = [
    (
        "run, both outputs",
        "docker run --rm --network none lab/base sh -c 'echo out; echo err >&2; exit 3'",
    ),
    ("run, no such program", "docker run --rm --network none lab/base nothing"),
    (
        "create and start -ai, half-close",
        "docker create -i --network none --name $N-c lab/base sh -c 'md5sum; echo after; exit 9'; "
        "seq 20000 | docker start -ai $N-c",
    ),
    ("inspect, ended", "docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' $N-c"),
    ("rm -v", "docker rm -v $N-c"),
]

# The main container: says three lines, then lives until TERM, of which it dies with 4.
MAIN = """docker run -d --name $N-main --label day=$N -v $N-vol:/data -e A=b lab/base sh -c '
trap "exit 4" TERM; echo oops >&2; sleep 0.3; for i in 1 2 3; do echo line $i; done
touch /ready; while :; do sleep 1 & wait $!; done'"""

CONTAINER = [
    ("volume create", "docker volume create $N-vol --label day=$N"),
    ("run -d", MAIN + "; until docker exec $N-main test -e /ready; do :; done"),
    ("ps", "docker ps --no-trunc --filter label=day=$N"),
    (
        "ps format",
        "docker ps -a --filter name=$N-main --format '{{.Names}} {{.State}} {{.Mounts}}'",
    ),
    ("inspect", "docker inspect $N-main"),
    ("inspect format", "docker inspect -s -f '{{.State.Status}} {{json .Config.Env}}' $N-main"),
    ("exec", "docker exec -w /tmp -u 1234 -e X=1 $N-main sh -c 'id -u; pwd; echo $X >&2; exit 5'"),
    ("exec -i", "seq 30000 | docker exec -i $N-main sh -c 'md5sum; echo after'"),
    (
        "exec -d",
        "docker exec -d $N-main touch /data/by-exec; sleep 1; docker exec $N-main ls /data",
    ),
    ("logs", "docker logs $N-main"),
    ("logs --tail", "docker logs --tail 1 -t $N-main"),
    ("top", "docker top $N-main -o pid,comm | grep -c -w sh"),
    ("port", "docker port $N-main"),
    ("stats", "docker stats --no-stream --format '{{.Name}} {{.ID}}' $N-main"),
    ("stats, all columns", "docker stats --no-stream $N-main | wc -lw"),
    (
        "cp",
        "mkdir d; seq 5000 > d/f; ln -s f d/l; docker cp -q d $N-main:/tmp/ && "
        "docker cp -q $N-main:/tmp/d back && diff -r d back && docker exec $N-main md5sum /tmp/d/f",
    ),
    ("cp, tar", "tar c d | docker cp - $N-main:/mnt && docker cp $N-main:/mnt/d - | tar t | sort"),
    ("cp, missing", "docker cp $N-main:/nothing ."),
    ("diff", "docker diff $N-main | sort"),
    (
        "update",
        "docker update --cpus 0.5 $N-main; docker inspect -f '{{.HostConfig.NanoCpus}}' $N-main",
    ),
    (
        "rename",
        "docker rename $N-main $N-x; docker rename $N-x $N-main; docker rename $N-main $N-main",
    ),
    (
        "pause",
        "docker pause $N-main; docker ps -f label=day=$N --format '{{.Status}}'; docker unpause $N-main",
    ),
    (
        # Something of its own in each day's layers: the engine keeps two that are alike once, and then
        # the first removal tells of one layer less than the second.
        "commit",
        "docker exec $N-main sh -c 'echo $0 > /whose' $N; "
        "docker commit -m day -c 'CMD [\"true\"]' $N-main $N/made:1",
    ),
    ("export and import", "docker export $N-main | docker import -m day - $N/flat:1"),
    (
        "logs -f and wait, until stop",
        "docker logs -f $N-main > log 2>&1 & L=$!; docker wait $N-main > rc & W=$!; sleep 2; "
        "docker stop -t 20 $N-main; wait $L; echo logs $?; wait $W; sort log; cat rc",
    ),
    ("restart and kill", "docker restart $N-main; docker kill $N-main; docker wait $N-main"),
    ("exec, not running", "docker exec $N-main true"),
    ("rm", "docker rm $N-main; docker ps -aq --filter label=day=$N"),
]

EVENTS = [
    (
        "events, live, and a run that is killed",
        "docker events --filter container=$N-e --filter event=kill --filter event=die "
        "--format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}' > ev & E=$!; "
        "docker run --rm --network none --name $N-e lab/base sh -c 'echo up; exec sleep 1000' > up & R=$!; "
        "until grep -q up up; do sleep 0.2; done; docker kill $N-e; wait $R; echo run $?; "
        "sleep 1; kill $E; wait $E; cat ev",
    ),
    (
        "events, past",
        "docker events --since 5m --until 0s --filter container=$N-main --filter event=start "
        "--filter event=stop --filter event=rename --filter event=commit --format '{{.Type}} {{.Action}}'",
    ),
]

THINGS = [
    ("network create", "docker network create --label day=$N --internal $N-net"),
    (
        "network ls",
        "docker network ls --filter name=$N-net --format '{{.Name}} {{.Driver}} {{.Scope}}'",
    ),
    ("network inspect", "docker network inspect $N-net | grep -v -E 'Subnet|Gateway'"),
    (
        "network connect",
        "docker create --name $N-n lab/base true >/dev/null; docker network connect --alias x $N-net $N-n; "
        "docker inspect -f '{{len .NetworkSettings.Networks}}' $N-n; "
        "docker network disconnect $N-net $N-n; docker rm $N-n; docker network rm $N-net",
    ),
    ("volume ls", "docker volume ls --filter name=$N-vol"),
    ("volume inspect", "docker volume inspect $N-vol"),
    ("volume rm", "docker volume rm $N-vol; docker volume rm $N-vol"),
    ("rmi", "docker rmi $N/made:1 $N/flat:1 | sort"),
    ("version", "docker version"),
    ("info", "docker info | grep -v -E '^ *(Containers|Running|Paused|Stopped|Images|Name):'"),
    ("system df", "docker system df --format '{{.Type}}'"),
    (
        "prune",
        "docker container prune -f --filter label=day=$N; docker image prune -f --filter label=day=$N",
    ),
]

FAULTS = [
    ("inspect, none", "docker inspect $N-none"),
    ("rm, logs, start, exec: none", "for c in rm logs start exec; do docker $c $N-none true; done"),
    ("run, no such image", "docker run --pull never $N/none"),
    ("pull, no registry", "docker pull 127.0.0.1:1/none"),
    ("run, bad memory", "docker run --rm -m 1m lab/base true"),
    ("run, bad mount", "docker run --rm -v /nothing/at/all:/x:zz lab/base true"),
    (
        "create, name taken",
        "for i in 1 2; do docker create --name $N-t lab/base true; done; docker rm $N-t",
    ),
    ("network, none", "docker run --rm --network $N-none lab/base true; docker network rm $N-none"),
    ("swarm, none", "docker node ls"),
    (
        "curl",
        "curl -s -w ' %{http_code} %{http_version}\\n' --unix-socket $S d/_ping d/v1.41/images/none/json",
    ),
]

BUILDS = [
    (
        "build, classic",
        "mkdir b; echo $N > b/f; "
        "printf 'FROM lab/base\\nCOPY f /f\\nRUN cat /f && exit 7\\n' > b/Dockerfile; "
        "DOCKER_BUILDKIT=0 docker build --force-rm b 2>&1",
    ),
    (
        "build, BuildKit",
        "printf 'FROM lab/base\\nCOPY f /f\\nRUN cat /f > /g\\n' > b/Dockerfile; "
        "docker build -q -t $N/kit b >&2; echo $?; "
        "docker inspect -f '{{len .RootFS.Layers}}' $N/kit; docker rmi $N/kit | grep -c Untagged",
    ),
]

COMPOSE_FILE = """
services:
  web:
    image: lab/base
    command: sh -c 'mkdir -p /tmp/w; echo served > /tmp/w/index.html; httpd -f -p 80 -h /tmp/w'
    stop_grace_period: 0s
    networks: [inner]
    volumes: ['kept:/kept']
  client:
    image: lab/base
    command: sh -c 'for i in 1 2 3 4 5 6 7; do wget -q -O - http://web/ && exec sleep 1000; sleep 1; done'
    stop_grace_period: 0s
    depends_on: [web]
    networks: [inner]
    environment: {WHO: me}
networks: {inner: {}}
volumes: {kept: {}}
"""

_COMPOSE = "docker compose -p $N-c"

COMPOSE = [
    ("file", f"cat > compose.yml <<'END'{COMPOSE_FILE}END"),
    ("compose config", f"{_COMPOSE} config --services"),
    ("compose up", f"{_COMPOSE} --progress quiet up -d"),
    ("compose up again", f"{_COMPOSE} --progress plain up -d 2>&1 | sort"),
    ("compose ps", f"{_COMPOSE} ps --format '{{{{.Service}}}} {{{{.State}}}} {{{{.Image}}}}'"),
    ("compose exec", f"echo in | {_COMPOSE} exec -T client sh -c 'cat; echo $WHO; exit 3'"),
    (
        "compose cp",
        f"{_COMPOSE} cp compose.yml web:/kept/x && {_COMPOSE} exec -T web md5sum /kept/x",
    ),
    ("compose logs", f"sleep 1; {_COMPOSE} logs --no-color client"),
    ("compose ls", "docker compose ls -q --filter name=$N-c"),
    (
        "compose down",
        f"{_COMPOSE} --progress quiet down -v; docker volume ls -q --filter name=$N-c",
    ),
]

DAY = [*IMAGES, *RUNS, *CONTAINER, *EVENTS, *THINGS, *FAULTS, *BUILDS]
