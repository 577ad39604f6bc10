/** <glimpse-pad src="https://glimpse.example.org" model="digits" lang="en">: the pad in a frame. */
customElements.define(
  "glimpse-pad",
  class extends HTMLElement {
    connectedCallback() {
      const address = new URL(`${this.getAttribute("src").replace(/\/$/, "")}/embed`, location);
      for (const name of ["model", "lang"]) {
        if (this.hasAttribute(name)) address.searchParams.set(name, this.getAttribute(name));
      }
      const frame = document.createElement("iframe");
      Object.assign(frame, { src: address, title: "Glimpse", width: 360, height: 760 });
      frame.style.border = "0";
      this.replaceChildren(frame);
    }
  },
);
