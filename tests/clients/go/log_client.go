// Command log_client reads and verifies a log with Go's own libraries for transparency logs, golang.org/x/mod/sumdb/tlog
// and note. Nothing of it shares code with the gateways.
//
//	log_client tiles FOLDER --log VKEY [--witness VKEY]... [--quorum N]
//	log_client requests FOLDER --log VKEY
//	log_client evidence FILE --log VKEY [--witness VKEY]... [--quorum N]
//
// tiles: FOLDER holds `checkpoint` and `tile/…` (C2SP tlog-tiles); every leaf is proven to be in the tree of the checkpoint.
// requests: FOLDER holds bodies of C2SP tlog-witness add-checkpoint, in the order of their names; each must continue the one
// before it. evidence: FILE is an evidence file; each of its entries of the log is proven by the C2SP tlog-proof beside it.
//
// Prints one JSON object; the exit status is 0 where everything is in order, 1 where it is not, 2 for a wrong command line.
package main

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	// Signature type of cosignature/v1 (C2SP tlog-cosignature).
	cosignature = 0x04
	proofHeader = "c2sp.org/tlog-proof@v1\n"
)

// witness verifies cosignature/v1, which the note package leaves to its callers.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }

func (w *witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)
	return ed25519.Verify(w.key, []byte(signed), signature[8:])
}

func newWitness(vkey string) (*witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("a witness's key has three parts")
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(typed) != 1+ed25519.PublicKeySize || typed[0] != cosignature {
		return nil, errors.New("a witness's key is of type 0x04")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), typed...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("the id of a witness's key is not its own")
	}
	return &witness{parts[0], hash, typed[1:]}, nil
}

// trust is what the command line says of the log.
type trust struct {
	log       note.Verifier
	witnesses []note.Verifier
	quorum    int
}

// open verifies a checkpoint and counts the witnesses under it.
func (t *trust) open(text []byte) (tlog.Tree, int, error) {
	known := append([]note.Verifier{t.log}, t.witnesses...)
	opened, err := note.Open(text, note.VerifierList(known...))
	if err != nil {
		return tlog.Tree{}, 0, err
	}
	signed, cosigned := false, 0
	for _, signature := range opened.Sigs {
		if signature.Name == t.log.Name() && signature.Hash == t.log.KeyHash() {
			signed = true
		} else {
			cosigned++
		}
	}
	if !signed {
		return tlog.Tree{}, 0, errors.New("the log has not signed it")
	}
	if cosigned < t.quorum {
		return tlog.Tree{}, 0, fmt.Errorf("%d of %d cosignatures", cosigned, t.quorum)
	}
	tree, err := parseTree(opened.Text, t.log.Name())
	return tree, cosigned, err
}

func parseTree(text, origin string) (tlog.Tree, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return tlog.Tree{}, errors.New("a checkpoint has three lines")
	}
	if lines[0] != origin {
		return tlog.Tree{}, errors.New("the checkpoint is of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, errors.New("the size is no number")
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// folder reads tiles as C2SP tlog-tiles lays them out: the same paths, without the height.
type folder string

func (f folder) Height() int                         { return tileHeight }
func (f folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
		read, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		if len(read) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", path, len(read))
		}
		all = append(all, read)
	}
	return all, nil
}

// checkTiles proves each leaf from tiles that were held against the root.
func checkTiles(at string, t *trust) (map[string]any, error) {
	text, err := os.ReadFile(filepath.Join(at, "checkpoint"))
	if err != nil {
		return nil, err
	}
	tree, cosigned, err := t.open(text)
	if err != nil {
		return nil, err
	}
	hashes := tlog.TileHashReader(tree, folder(at))
	for index := int64(0); index < tree.N; index++ {
		leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return nil, err
		}
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		if err != nil {
			return nil, err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf[0]); err != nil {
			return nil, err
		}
	}
	return map[string]any{"size": tree.N, "cosigned": cosigned, "proven": tree.N}, nil
}

// hashLines reads hashes, one a line.
func hashLines(lines []string) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// checkRequests holds each request against the checkpoint before it, as a witness does.
func checkRequests(at string, t *trust) (map[string]any, error) {
	names, err := filepath.Glob(filepath.Join(at, "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	seen := map[int64]tlog.Hash{}
	continued := 0
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		head, checkpoint, found := bytes.Cut(body, []byte("\n\n"))
		lines := strings.Split(string(head), "\n")
		if !found || !strings.HasPrefix(lines[0], "old ") {
			return nil, errors.New("not a request to add a checkpoint")
		}
		old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
		if err != nil {
			return nil, err
		}
		proof, err := hashLines(lines[1:])
		if err != nil {
			return nil, err
		}
		tree, _, err := t.open(checkpoint)
		if err != nil {
			return nil, err
		}
		if old > 0 {
			before, known := seen[old]
			if !known {
				return nil, fmt.Errorf("%s continues %d entries, which nobody has shown", filepath.Base(name), old)
			}
			if err := tlog.CheckTree(tlog.TreeProof(proof), tree.N, tree.Hash, old, before); err != nil {
				return nil, err
			}
			if old < tree.N {
				continued++
			}
		}
		if before, known := seen[tree.N]; known && before != tree.Hash {
			return nil, fmt.Errorf("two roots of %d entries", tree.N)
		}
		seen[tree.N] = tree.Hash
	}
	return map[string]any{"requests": len(names), "continued": continued}, nil
}

// checkEvidence verifies what an evidence file holds of the log.
func checkEvidence(at string, t *trust) (map[string]any, error) {
	archive, err := zip.OpenReader(at)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	members := map[string][]byte{}
	for _, file := range archive.File {
		reader, err := file.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		members[file.Name] = content
	}
	proven := 0
	for name, proof := range members {
		stem := strings.TrimSuffix(name, ".tlog-proof")
		if stem == name || !bytes.Contains(proof, []byte("\n\n"+t.log.Name()+"\n")) {
			continue
		}
		entry, found := members[stem+".entry"]
		if !found {
			return nil, fmt.Errorf("%s is of no entry", name)
		}
		if err := checkProof(proof, entry, t); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		proven++
	}
	if proven == 0 {
		return nil, errors.New("no entry of the log is in the file")
	}
	return map[string]any{"proven": proven}, nil
}

// checkProof verifies a C2SP tlog-proof of an entry.
func checkProof(proof, entry []byte, t *trust) error {
	rest := strings.TrimPrefix(string(proof), proofHeader)
	head, checkpoint, found := strings.Cut(rest, "\n\n")
	lines := strings.Split(head, "\n")
	if rest == string(proof) || !found || !strings.HasPrefix(lines[0], "index ") {
		return errors.New("not a proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil {
		return err
	}
	hashes, err := hashLines(lines[1:])
	if err != nil {
		return err
	}
	tree, _, err := t.open([]byte(checkpoint))
	if err != nil {
		return err
	}
	return tlog.CheckRecord(tlog.RecordProof(hashes), tree.N, tree.Hash, index, tlog.RecordHash(entry))
}

// parse reads the command line behind the two positions.
func parse(arguments []string) (*trust, error) {
	t := &trust{}
	for len(arguments) > 1 {
		name, value := arguments[0], arguments[1]
		arguments = arguments[2:]
		var err error
		switch name {
		case "--log":
			t.log, err = note.NewVerifier(value)
		case "--witness":
			var known *witness
			known, err = newWitness(value)
			t.witnesses = append(t.witnesses, known)
		case "--quorum":
			t.quorum, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("no flag %s", name)
		}
		if err != nil {
			return nil, err
		}
	}
	if t.log == nil || len(arguments) > 0 {
		return nil, errors.New("name the log's key: --log VKEY")
	}
	return t, nil
}

func main() {
	checks := map[string]func(string, *trust) (map[string]any, error){
		"tiles": checkTiles, "requests": checkRequests, "evidence": checkEvidence,
	}
	if len(os.Args) < 3 || checks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "log_client tiles|requests|evidence PLACE --log VKEY [--witness VKEY]... [--quorum N]")
		os.Exit(2)
	}
	trusted, err := parse(os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	report, err := checks[os.Args[1]](os.Args[2], trusted)
	if err != nil {
		report = map[string]any{"invalid": err.Error()}
	}
	if json.NewEncoder(os.Stdout).Encode(report) != nil || err != nil {
		os.Exit(1)
	}
}
