package generator

import "math/rand/v2"

// A page is a node of the tree that users walk. Two nodes may have the same name.
type page struct {
	name string
	next []*page // where a step can lead: the page itself, its children, its parent
}

// newPage returns a page with the given children.
func newPage(name string, children ...*page) *page {
	p := &page{name: name}
	p.next = append(append(p.next, p), children...)
	for _, child := range children {
		child.next = append(child.next, p)
	}
	return p
}

// step returns where a user who is on p is after one step.
func (p *page) step(random *rand.Rand) *page { return p.next[random.IntN(len(p.next))] }

// newPageTree returns the root of the lab's tree. The tree has 16 nodes with 15 names,
// because the child of bacteria.html is also named bacteria.html.
func newPageTree() *page {
	return newPage("home.html",
		newPage("archea.html", newPage("archaea.html")),
		newPage("bacteria.html", newPage("bacteria.html")),
		newPage("eucharya.html",
			newPage("protozoa.html", newPage("amoebozoa.html")),
			newPage("chromista.html", newPage("cryptista.html")),
			newPage("plantae.html", newPage("coniferophyta.html")),
			newPage("fungi.html", newPage("blastocladiomycota.html")),
			newPage("animalia.html", newPage("acanthocephala.html")),
		),
	)
}
