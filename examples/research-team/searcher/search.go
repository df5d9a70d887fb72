package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// How a passage is found. The Python file retrieval.py is the same algorithm and says why it is what it is; everything
// is counted in whole numbers and on bytes, and testdata/vectors.json holds both languages to the same result.

const (
	passageBytes = 1200
	passageTerms = 8
)

var stop = func() map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields("an and are as at be been but by can could did do does for from had has have how" +
		" if in into is it its may me might my no not of on one or our should so some such than that the their them then" +
		" there these they this to was we were what when where which who why will with would you your") {
		set[word] = true
	}
	return set
}()

type document struct {
	name string
	text []byte
}

type passage struct {
	offset int
	text   []byte
}

// Found is a passage as the planner gets it.
type Found struct {
	Document string `json:"document"`
	Offset   int    `json:"offset"`
	Score    int64  `json:"score"`
	Text     string `json:"text"`
}

// readCorpus reads every .txt file under the folder, in the order of their paths' bytes.
func readCorpus(folder string) ([]document, error) {
	var corpus []document
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".txt") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		corpus = append(corpus, document{filepath.ToSlash(name), text})
		return err
	})
	if err == nil && len(corpus) == 0 {
		err = fmt.Errorf("there is no corpus: %s holds no .txt file", folder)
	}
	sort.Slice(corpus, func(i, j int) bool { return corpus[i].name < corpus[j].name })
	return corpus, err
}

// eachTerm calls visit with every word that counts: lower case, no stop words, no single letters, plurals cut.
func eachTerm(text []byte, visit func(term []byte)) {
	var word []byte
	end := func() {
		if len(word) > 1 && !stop[string(word)] {
			if len(word) > 3 && word[len(word)-1] == 's' && word[len(word)-2] != 's' {
				word = word[:len(word)-1]
			}
			visit(word)
		}
		word = word[:0]
	}
	for _, b := range text {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if 'a' <= b && b <= 'z' || '0' <= b && b <= '9' {
			word = append(word, b)
		} else if len(word) > 0 {
			end()
		}
	}
	end()
}

func distinctTerms(query string) []string {
	var terms []string
	seen := map[string]bool{}
	eachTerm([]byte(query), func(term []byte) {
		if !seen[string(term)] {
			seen[string(term)] = true
			terms = append(terms, string(term))
		}
	})
	return terms
}

// passages cuts a document into its paragraphs, and a long paragraph at the ends of lines.
func passages(text []byte) []passage {
	var found []passage
	start, end, offset := 0, 0, 0
	for _, line := range bytes.Split(text, []byte("\n")) {
		after := offset + len(line)
		if end > start && (len(line) == 0 || after-start > passageBytes) {
			found = append(found, passage{start, text[start:end]})
			start, end = offset, offset
		}
		if len(line) > 0 {
			if end == start {
				start = offset
			}
			end = after
		}
		offset = after + 1
	}
	if end > start {
		found = append(found, passage{start, text[start:end]})
	}
	return found
}

// inverseFrequency is sixteen times the base-2 logarithm of all/having, without a float.
func inverseFrequency(all, having int64) int64 {
	sixteen := big.NewInt(16)
	above := new(big.Int).Exp(big.NewInt(all), sixteen, nil)
	below := new(big.Int).Exp(big.NewInt(having), sixteen, nil)
	return int64(above.Div(above, below).BitLen())
}

// weight is BM25 with k1 = 1.2 and b = 0.75, multiplied by 1000 and rounded down.
func weight(count, length, mean int64) int64 {
	return 22000 * count * mean / (10*count*mean + 3*mean + 9*length)
}

type hit struct {
	document string
	passage  passage
	length   int64
	counts   map[string]int64
}

// search gives the best passages of one share for each query. There is no index on purpose: a search reads the whole
// corpus, as an agent that calls a slow tool would, so it has a length that can be watched and interrupted.
// pace is spread over the documents and makes it longer still.
func search(ctx context.Context, corpus []document, queries []string, share, shares, top int, pace time.Duration) ([][]Found, error) {
	having := map[string]int64{}
	wanted := make([][]string, len(queries))
	for i, query := range queries {
		wanted[i] = distinctTerms(query)
		for _, term := range wanted[i] {
			having[term] = 0
		}
	}
	var seen, lengthOfAll int64
	var hits []hit
	for place, document := range corpus {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pace / time.Duration(len(corpus))):
		}
		for _, passage := range passages(document.text) {
			var length int64
			var counts map[string]int64
			eachTerm(passage.text, func(term []byte) {
				length++
				if _, asked := having[string(term)]; asked {
					if counts == nil {
						counts = map[string]int64{}
					}
					counts[string(term)]++
				}
			})
			if length < passageTerms {
				continue
			}
			seen++
			lengthOfAll += length
			for term := range counts {
				having[term]++
			}
			if counts != nil && place%shares == share {
				hits = append(hits, hit{document.name, passage, length, counts})
			}
		}
	}
	results := make([][]Found, len(queries))
	for i := range results {
		results[i] = best(hits, wanted[i], having, seen, lengthOfAll, top)
	}
	return results, nil
}

func best(hits []hit, query []string, having map[string]int64, seen, lengthOfAll int64, top int) []Found {
	scored := []Found{}
	rarity := map[string]int64{}
	for _, term := range query {
		if having[term] > 0 {
			rarity[term] = inverseFrequency(seen, having[term])
		}
	}
	for _, hit := range hits {
		var score int64
		for _, term := range query {
			if count := hit.counts[term]; count > 0 {
				score += rarity[term] * weight(count, hit.length, lengthOfAll/seen)
			}
		}
		if score > 0 {
			scored = append(scored, Found{hit.document, hit.passage.offset, score, string(hit.passage.text)})
		}
	}
	sort.Slice(scored, func(i, j int) bool {
		a, b := scored[i], scored[j]
		if a.Score != b.Score {
			return a.Score > b.Score
		}
		if a.Document != b.Document {
			return a.Document < b.Document
		}
		return a.Offset < b.Offset
	})
	return scored[:min(top, len(scored))]
}
