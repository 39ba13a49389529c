// Verifies a log or a proof of Cordon with the Go project's checksum database code
// (golang.org/x/mod/sumdb/note and sumdb/tlog), which knows nothing of Cordon.
//
//	tlog log DIR KEY-FILE [OLD-CHECKPOINT]   signature, every record, inclusion and consistency
//	                                         proofs rebuilt from the tiles
//	tlog proof FILE KEY-FILE                 a C2SP tlog-proof that carries its record
//
// DIR is laid out as C2SP tlog-tiles. Exit 0: accepted; 1: refused, with the reason.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	fmt.Println("accepted")
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: tlog log DIR KEY-FILE [OLD-CHECKPOINT] | tlog proof FILE KEY-FILE")
	}
	key, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return err
	}
	switch args[0] {
	case "log":
		old := ""
		if len(args) > 3 {
			old = args[3]
		}
		return checkLog(args[1], verifier, old)
	case "proof":
		return checkProof(args[1], verifier)
	}
	return errors.New("unknown: " + args[0])
}

// openCheckpoint checks the signature and gives the tree that the checkpoint states.
func openCheckpoint(text []byte, verifier note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// tiles reads the tiles of a directory.
type tiles struct{ dir string }

func (t tiles) Height() int { return 8 }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		data, err := t.read(strconv.Itoa(tile.L), tile.N, tile.W)
		if err != nil {
			return nil, err
		}
		if len(data) < tile.W*tlog.HashSize {
			return nil, errors.New("tile cut short")
		}
		all = append(all, data[:tile.W*tlog.HashSize])
	}
	return all, nil
}

// read gives a full tile, or else the partial one of just this width.
func (t tiles) read(kind string, n int64, width int) ([]byte, error) {
	path := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	path = filepath.Join(t.dir, "tile", kind, path)
	data, err := os.ReadFile(path)
	if err == nil {
		return data, nil
	}
	return os.ReadFile(filepath.Join(path+".p", strconv.Itoa(width)))
}

// hashes are all stored hashes of a tree, in memory.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, index := range indexes {
		if index >= int64(len(h)) {
			return nil, errors.New("no such hash")
		}
		out = append(out, h[index])
	}
	return out, nil
}

func checkLog(dir string, verifier note.Verifier, old string) error {
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := openCheckpoint(text, verifier)
	if err != nil {
		return err
	}
	leaves, err := readLeaves(dir, tree)
	if err != nil {
		return err
	}
	// Every proof is built from the tiles, which are checked against the root as they are read.
	reader := tlog.TileHashReader(tree, tiles{dir})
	for index := int64(0); index < tree.N; index += 1 + tree.N/97 {
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaves[index]); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
	}
	if old == "" {
		return nil
	}
	text, err = os.ReadFile(old)
	if err != nil {
		return err
	}
	before, err := openCheckpoint(text, verifier)
	if err != nil {
		return err
	}
	if before.N > tree.N {
		return fmt.Errorf("rolled back from %d to %d records", before.N, tree.N)
	}
	if before.N == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, before.N, reader)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash)
}

// readLeaves hashes every entry and checks that they give the root.
func readLeaves(dir string, tree tlog.Tree) ([]tlog.Hash, error) {
	var stored hashes
	var leaves []tlog.Hash
	for bundle := int64(0); bundle*256 < tree.N; bundle++ {
		width := tree.N - bundle*256
		if width > 256 {
			width = 256
		}
		data, err := tiles{dir}.read("entries", bundle, int(width))
		if err != nil {
			return nil, err
		}
		for entry := int64(0); entry < width; entry++ {
			if len(data) < 2 {
				return nil, errors.New("bundle cut short")
			}
			length := int(binary.BigEndian.Uint16(data))
			if len(data) < 2+length {
				return nil, errors.New("bundle cut short")
			}
			seq := bundle*256 + entry
			more, err := tlog.StoredHashes(seq, data[2:2+length], stored)
			if err != nil {
				return nil, err
			}
			stored = append(stored, more...)
			leaves = append(leaves, tlog.RecordHash(data[2:2+length]))
			data = data[2+length:]
		}
		if len(data) != 0 {
			return nil, errors.New("bundle holds more than it should")
		}
	}
	root, err := tlog.TreeHash(tree.N, stored)
	if err != nil {
		return nil, err
	}
	if root != tree.Hash {
		return nil, errors.New("the records do not give the root that the checkpoint states")
	}
	return leaves, nil
}

func checkProof(file string, verifier note.Verifier) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, checkpoint, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	tree, err := openCheckpoint([]byte(checkpoint), verifier)
	if err != nil {
		return err
	}
	record, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(record))
}
