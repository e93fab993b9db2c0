# The lab host: a virtual machine that site.yml provisions for real. Included by ../../Makefile.
LAB := tests/lab/lab
# Make has an AS of its own, the assembler: only one that was said counts.
ifeq ($(origin AS),default)
AS := root
endif

.PHONY: lab
lab: setup lab-up ## boot the lab host, run site.yml on it, show what is enforced and what to try
	@echo "lab: site.yml on the lab host"
	ansible-playbook -i inventories/lab/hosts.yml playbooks/site.yml
	@$(LAB) summary

.PHONY: lab-image
lab-image: ## build the lab's image, if its definition changed
	@$(LAB) image

.PHONY: lab-up
lab-up: ## boot the lab host, or leave it alone when it runs
	@$(LAB) up

# The value of RUN as it was typed: neither make nor this machine's shell expands it.
.PHONY: lab-ssh
lab-ssh: export LAB_RUN = $(value RUN)
lab-ssh: ## a command on the lab host, as one of its users: AS=alice RUN='id'; a shell without RUN
	@$(LAB) ssh --as '$(AS)' $${LAB_RUN:+-- "$$LAB_RUN"}

.PHONY: lab-down
lab-down: ## stop the lab host and throw its disk away
	@$(LAB) down

# `make test STAGES=lab` is these two. They leave the lab up for the stages that follow;
# stage-lab-down ends it. Without the reset molecule would remember the lab of an earlier run and
# boot no fresh one.
stage-lab-site: export NO_COLOR := 1
stage-lab-site: export PY_COLORS := 0
stage-lab-site: export ANSIBLE_FORCE_COLOR := 0
stage-lab-site:
	molecule reset --scenario-name lab
	molecule check --scenario-name lab --no-command-borders

# Not by molecule, which passes nothing on until a whole file is done: one line a test, as it ends.
stage-lab-tests:
	python -m pytest -v --durations=25 tests/lab

stage-lab-down:
	@$(LAB) down
