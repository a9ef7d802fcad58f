# latephase.h needs no build; this file builds and runs what stands around it.
# `make help` lists the targets; CC, CFLAGS, DATA, TEXT and ARGS may be set on the command line.

CC     ?= cc
CFLAGS ?= -O2
LIBS    = -lpthread -lm
B       = build
DATA   ?= data/cifar10
TEXT   ?= data/enwik8
ARGS   ?=
SECONDS ?= 60
SAN     = -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
MAKEFLAGS += -j2

SHARED   = latephase.h $(wildcard examples/*.h examples/microcontroller/net.h reference/*.h)
# Most programs are linked with one object that holds the library; two have an own form of it.
USERS    = $(B)/demo $(B)/cifar $(B)/enwik8 $(B)/sweep $(B)/finetune $(B)/imagenet $(B)/table $(B)/export $(B)/measure
PROGRAMS = $(USERS) $(B)/predict $(B)/quadratic
# Most tests are linked with one object that holds the library; three hold a library of their own.
# (A new test program is one more word in LINKED, and a line in tests/run.sh.)
LINKED   = $(B)/unit $(B)/ops $(B)/algorithm $(B)/gradcheck $(B)/faults $(B)/corrupt $(B)/images $(B)/files
TESTS    = $(LINKED) $(B)/gradcheck64 $(B)/bits $(B)/graphs

.PHONY: all run run-text quadratic test test-rest check fuzz sweep bench bench-peers cifar paper paper-quick enwik8 web microcontroller clean help
.DEFAULT_GOAL = all

all: $(PROGRAMS) ## build the programs

run: $(B)/demo ## train on a made-up data set, no download: the two-minute demonstration
	$(B)/demo $(ARGS)

run-text: $(B)/enwik8 ## an LSTM learns to write from this repository, no download: within a minute
	$(B)/enwik8 $(ARGS)

quadratic: $(B)/quadratic ## the theory: late-phase weights on a noisy quadratic loss, simulated and in closed form
	$(B)/quadratic $(ARGS)

test: $(TESTS) $(PROGRAMS) ## the tests of the library and the programs, in about 4 minutes
	sh tests/run.sh quick $(B)

test-rest: $(TESTS) $(PROGRAMS) ## what test leaves out: sanitizers, warnings, other machines, compilers, scripts; 5 minutes more
	sh tests/run.sh rest $(B)

check: $(TESTS) $(PROGRAMS) ## the exhaustive form of test, within the hour: every compiler, level and machine, size, format
	sh tests/run.sh full $(B)

fuzz: $(B)/fuzz ## nonsense for everything that reads: SECONDS=60 under the sanitizers; ARGS="--seed 2": other nonsense
	$(B)/fuzz --seconds $(SECONDS) $(ARGS)

sweep: $(B)/sweep ## late-phase weights, SWA and SGD on growing parts of CIFAR-10 (some hours)
	sh data_scripts/get_cifar10.sh $(DATA)
	@for what in "1000 --epochs 15" "2000 --epochs 15" "4000 --epochs 15" "2000 --epochs 60" \
	    "10000 --epochs 15" "25000 --epochs 6" "50000 --epochs 4"; do \
	    $(B)/sweep --data $(DATA) --limit-train $$what $(ARGS); done

bench: $(B)/bench ## rates of this machine: GEMM, convolutions, Wide ResNets, LSTM, the cost of the late phase
	@for what in sgemm conv late wrn-16-1-128 wrn-16-4-128 wrn-28-10-64 wrn-28-10-128 \
	    "--threads 1 wrn-16-1-1" lstm-500-100-200; do $(B)/bench $$what $(ARGS); done

bench-peers: $(B)/bench ## the same beside OpenBLAS and PyTorch, where they are installed
	sh tests/peers.sh $(B)

cifar: $(B)/cifar ## fetch CIFAR-10, then train WRN-16-1 for 15 epochs (about half an hour on a laptop)
	sh data_scripts/get_cifar10.sh $(DATA)
	$(B)/cifar --data $(DATA) $(ARGS)

PAPER = $(B)/bits $(filter $(B)/cifar $(B)/enwik8 $(B)/measure $(B)/quadratic,$(PROGRAMS))
paper: $(PAPER) ## the paper's experiments, each once (days): ARGS="--list", or groups: ARGS="main100 text"
	sh examples/paper.sh $(ARGS)

paper-quick: $(PAPER) ## the same with tiny nets on made-up images: a few minutes, to see that everything runs
	PAPER_QUICK=1 sh examples/paper.sh $(ARGS)

enwik8: $(B)/enwik8 ## fetch enwik8, then train an LSTM of 500 units for 5 epochs (eight hours or so)
	sh data_scripts/get_enwik8.sh $(TEXT)
	$(B)/enwik8 $(TEXT)/enwik8 $(ARGS)

HAS_WASM = $(shell command -v clang >/dev/null && command -v wasm-ld >/dev/null && echo yes)
web: $(if $(HAS_WASM),$(B)/web/latephase.html) ## a page in one file: two nets learn digits in the browser
	@[ -n "$(HAS_WASM)" ] || echo "skipped: the page needs clang and wasm-ld (Debian: clang, lld)"

microcontroller: $(B)/export ## inference and fine-tuning on an emulated Cortex-M4F: flash, RAM, answers, bits
	@if command -v arm-none-eabi-gcc >/dev/null && command -v qemu-system-arm >/dev/null; \
	then $(MAKE) --no-print-directory -C examples/microcontroller B=$(abspath $(B)); \
	else echo "skipped: the chip needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm"; fi

clean: ## remove what was built
	rm -rf $(B)

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-15s %s\n", $$1, $$2}'

$(B):
	mkdir -p $(B)

$(B)/library.o: examples/library.c examples/disk.h latephase.h | $(B)
	$(CC) $(CFLAGS) -c $< -o $@

$(USERS): $(B)/%: examples/%.c $(B)/library.o $(SHARED)
	$(CC) $(CFLAGS) -DLIBRARY_APART -I$(B) $< $(B)/library.o -o $@ $(LIBS)

$(B)/predict $(B)/quadratic: $(B)/%: examples/%.c $(SHARED) | $(B)
	$(CC) $(CFLAGS) -I$(B) $< -o $@ $(LIBS)

# The loops that an exported net consists of, a C string a line.
$(B)/export: $(B)/plain.inc
$(B)/plain.inc: reference/plain.h | $(B)
	sed -n '/^\/\/>>export/,/^\/\/<<export/{/^\/\//!{s/[\"]/\\&/g;s/.*/"&\\n",/p;};}' $< >$@

$(B)/impl.o: tests/impl.c tests/inside.h latephase.h | $(B)
	$(CC) $(CFLAGS) -c $< -o $@

$(LINKED): $(B)/%: tests/%.c $(B)/impl.o $(wildcard tests/*.h examples/*.h)
$(B)/images: $(SHARED)

$(LINKED): $(B)/%: tests/%.c $(B)/impl.o $(wildcard tests/*.h)
	$(CC) $(CFLAGS) $< $(B)/impl.o -o $@ $(LIBS)

$(B)/fuzz: tests/fuzz.c tests/impl.c latephase.h $(wildcard tests/*.h examples/*.h) | $(B)
	$(CC) $(SAN) -DLP_NO_SIMD $< tests/impl.c -o $@ $(LIBS)

$(B)/gradcheck64: tests/gradcheck.c tests/impl.c tests/inside.h tests/test.h latephase.h | $(B)
	$(CC) $(CFLAGS) -DLP_REAL=double $< tests/impl.c -o $@ $(LIBS)

# The same random nets in double: they judge an alarm, and run by themselves (graphs --double).
$(B)/graphs_double.o: tests/graphs.c tests/test.h reference/plain.h latephase.h | $(B)
	$(CC) $(CFLAGS) -O1 -DLP_REAL=double -DLP_STATIC -DGRAPHS_JUDGE -c $< -o $@

$(B)/graphs: tests/graphs.c $(B)/graphs_double.o
	$(CC) $(CFLAGS) -DGRAPHS_JUDGED $< $(B)/graphs_double.o -o $@ $(LIBS)

$(B)/%: tests/%.c $(SHARED) $(wildcard tests/*.h) | $(B)
	$(CC) $(CFLAGS) $< -o $@ $(LIBS)

# The page: web.c as WebAssembly, as text in the place of @WASM@ in page.html.  WASM_FLAGS=-msimd128
# compiles it for vectors, which browsers have since 2023.
WASM_FLAGS ?=
$(B)/web/latephase.html: examples/web/page.html examples/web/web.c latephase.h
	@mkdir -p $(B)/web
	clang --target=wasm32 -std=c99 -Os -ffreestanding -nostdlib -fvisibility=hidden \
	    -Wl,--no-entry,--strip-all $(WASM_FLAGS) examples/web/web.c -o $(B)/web/web.wasm
	base64 $(B)/web/web.wasm >$(B)/web/web.b64
	sed -e '/^@WASM@$$/{r $(B)/web/web.b64' -e 'd;}' $< >$@
